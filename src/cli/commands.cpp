#include "cli/commands.hpp"

#include "cli/options.hpp"

namespace spillway::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"windows", "the windows of a signal", false, run_windows},
  };
  return table;
}

}  // namespace spillway::cli
