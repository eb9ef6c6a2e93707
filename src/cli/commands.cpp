#include "cli/commands.hpp"

#include "cli/options.hpp"

namespace spillway::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"train", "train at one site: the MPI program", false, run_train},
      {"hub", "the always-on control process of a federation", false, run_hub_command},
      {"vault", "keeps the newest committed model; started by the hub", true, run_vault_command},
      {"windows", "the windows of a signal", false, run_windows},
  };
  return table;
}

}  // namespace spillway::cli
