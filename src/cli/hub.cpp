// spillway hub: the always-on control process.
#include "train/hub.hpp"

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/process.hpp"

namespace po = boost::program_options;

namespace spillway::cli {

int run_hub(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "hub";
  spec.summary =
      "Coordinates the sites: membership, rounds, data, the run's clock. Starts the vault beside it.";
  spec.usage = "spillway hub --config FILE.ini [--bind HOST:PORT] [options]";
  HubOptions options;
  bool no_vault = false;
  spec.options.add_options()("bind", po::value(&options.bind),
                             "address to listen on; default: federation.hub")(
      "no-vault", po::bool_switch(&no_vault), "do not start the vault; it runs elsewhere");
  spec.sections = {"model", "data", "train", "optim", "clock", "federation", "run"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (config->federation.hub.empty())
    fail(ExitCode::usage, "federation.hub is not set: give the hub's HOST:PORT");
  if (!no_vault) {
    options.vault_command = {own_executable(), "vault"};
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i] == "--bind")
        ++i;  // with its value: the hub's own
      else if (!arguments[i].starts_with("--bind="))
        options.vault_command.push_back(arguments[i]);
    }
  }
  return static_cast<int>(spillway::run_hub(*config, options));
}

}  // namespace spillway::cli
