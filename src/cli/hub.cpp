// spillway hub: the always-on control process; with status or --audit, what it does and what it did.
#include "train/hub.hpp"

#include "cli/commands.hpp"
#include "cli/hub_reports.hpp"
#include "cli/options.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// The vault has the hub's command line, without what only the hub knows.
std::vector<std::string> vault_arguments(const Arguments& arguments) {
  std::vector<std::string> result = {"vault"};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--bind")
      ++i;  // and its value
    else if (!arguments[i].starts_with("--bind="))
      result.push_back(arguments[i]);
  }
  return result;
}

}  // namespace

int run_hub(const Arguments& arguments) {
  if (!arguments.empty() && arguments[0] == "status")
    return run_hub_status({arguments.begin() + 1, arguments.end()});
  CommandSpec spec;
  spec.name = "hub";
  spec.summary =
      "Coordinates the sites: membership, rounds, data, the run's clock. Starts the vault beside it.";
  spec.usage =
      "spillway hub --config FILE.ini [--bind HOST:PORT] [options]\n"
      "       spillway hub status --config FILE.ini [--json]\n"
      "       spillway hub --audit DIR [--json]";
  HubOptions options;
  bool no_vault = false, json = false;
  std::string audited;
  spec.options.add_options()("bind", po::value(&options.bind),
                             "address to listen on; default: federation.hub")(
      "no-vault", po::bool_switch(&no_vault), "do not start the vault; it runs elsewhere")(
      "audit", po::value(&audited),
      "prove from the journal below this run.dir that every block was merged exactly once")(
      "json", po::bool_switch(&json), "with --audit: JSON");
  spec.sections = {"model", "data", "train", "optim", "clock", "federation", "run"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (!audited.empty()) return print_audit(audited, json);
  if (json) fail(ExitCode::usage, "--json goes with --audit or spillway hub status");
  if (config->federation.hub.empty())
    fail(ExitCode::usage, "federation.hub is not set: give the hub's HOST:PORT");
  if (!no_vault) options.vault_arguments = vault_arguments(arguments);
  return static_cast<int>(spillway::run_hub(*config, options));
}

}  // namespace spillway::cli
