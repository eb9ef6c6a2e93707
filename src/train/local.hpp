// Hub and sites on one machine: what Slurm does on clusters, for trying out, tests and the demo.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

struct LocalSite {
  Config config;                       // of this site: signal, gate, ranks
  std::vector<std::string> arguments;  // of `spillway train` at this site
};

struct LocalRun {
  Config config;                           // what all have in common
  std::vector<std::string> hub_arguments;  // of `spillway hub`
  std::map<std::string, LocalSite> sites;  // by name
};

// Starts the hub, starts every site's job (mpirun) when its window opens, tells it to suspend before the window closes,
// and shows the progress of all. Ends when the run is complete, when no site has a window left, or on a stop signal; then
// prints a summary and writes <run.dir>/summary.json. Logs are in <run.dir>/logs.
// ExitCode::complete when all steps are done, else ExitCode::suspended: the same call goes on from there.
ExitCode run_local(const LocalRun& run);

}  // namespace spillway
