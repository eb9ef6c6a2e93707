#!/usr/bin/env bash
# Every shell script of the repository passes shellcheck, and every script of slurm/ has --help. Exit code 77: no shellcheck.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for script in slurm/site.sbatch slurm/hub.sbatch slurm/federation.sh slurm/submit-windows slurm/lab/slurm-lab slurm/lab/demo; do
  help=$("$script" --help)
  [[ $help == "usage: "* ]] || { echo "$script --help does not begin with usage:" >&2; exit 1; }
done

command -v shellcheck >/dev/null || { echo "skipped: no shellcheck"; exit 77; }
mapfile -t scripts < <(grep -rlE '^#!.*\b(bash|sh)\b|^# shellcheck shell=' run .ci slurm tests traces --include='*' -I)
echo "shellcheck ${scripts[*]}"
shellcheck "${scripts[@]}"
