// spillway local: hub and sites on this machine.
#include "train/local.hpp"

#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"

namespace spillway::cli {

int run_local(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "local";
  spec.summary = "Runs the hub and every site's MPI job on this machine, each site in its windows.";
  spec.usage = "spillway local --config FILE.ini [options]";
  spec.sections = {"local", "site",  "signal", "gate",  "clock", "federation",
                   "run",   "model", "data",   "train", "optim"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  LocalRun run;
  run.config = *config;
  run.hub_arguments = arguments;
  for (const std::string& name : config->local.sites) {
    LocalSite site;
    site.config = parse_for_site(spec, arguments, name);
    site.arguments = arguments;
    site.arguments.insert(site.arguments.end(), {"--site", name});
    run.sites[name] = std::move(site);
  }
  const ExitCode code = spillway::run_local(run);
  std::cout << "report:  " << write_page(config->run.dir) << "\n";
  return static_cast<int>(code);
}

}  // namespace spillway::cli
