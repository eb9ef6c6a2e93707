#!/usr/bin/env bash
# Submits the windows of all sites, each to its own cluster; see federation.sh --help.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: federation.sh --config FILE.ini SITE=ENV.sh ... [-- SUBMIT-WINDOWS OPTIONS]
       federation.sh --cancel --config FILE.ini SITE=ENV.sh ...

For every site: sources its cluster's file, whose SLURM_CONF chooses the cluster, and runs submit-windows for it. A cluster
that cannot be reached does not keep the others back. --cancel instead cancels all tasks of the sites: those that run suspend.

  slurm/federation.sh --config run.ini texas=slurm/env/texas.sh chile=slurm/env/chile.sh -- --lead 90

Exit code: 0, or that of the first site that failed.
TEXT
}

die() { # code message
  echo "federation.sh: $2" >&2
  exit "$1"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config="" cancel="" sites=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --config)
      [[ $# -ge 2 ]] || die 64 "--config needs a value; see --help"
      config=$2
      shift 2
      ;;
    --cancel)
      cancel=1
      shift
      ;;
    --)
      shift
      break
      ;;
    -*) die 64 "unknown option '$1'; see --help" ;;
    *=*)
      [[ -r ${1#*=} ]] || die 64 "${1%%=*}: ${1#*=} cannot be read"
      sites+=("$1")
      shift
      ;;
    *) die 64 "'$1' is not SITE=ENV.sh; see --help" ;;
  esac
done
[[ -n $config && ${#sites[@]} -gt 0 ]] || die 64 "--config and at least one SITE=ENV.sh are needed; see --help"
[[ -r $config ]] || die 64 "--config $config: cannot be read"

cancel_site() { # site env
  # shellcheck disable=SC1090  # the operator's file
  source "$2" && scancel --user="$(id -un)" --name="spillway-$1" && echo "$1: cancelled"
}

status=0
for entry in "${sites[@]}"; do
  site=${entry%%=*} env_file=${entry#*=}
  if [[ -n $cancel ]]; then
    (cancel_site "$site" "$env_file")
  else
    "$here/submit-windows" --config "$config" --site "$site" --env "$env_file" "$@"
  fi
  code=$?
  if [[ $code -ne 0 ]]; then
    echo "federation.sh: $site failed with status $code" >&2
    [[ $status -ne 0 ]] || status=$code
  fi
done
exit "$status"
