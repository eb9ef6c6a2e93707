// spillway vault: started by the hub.
#include "train/vault.hpp"

#include "cli/commands.hpp"
#include "cli/options.hpp"

namespace spillway::cli {

int run_vault(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "vault";
  spec.summary = "Keeps the newest committed model on disk and gives it to sites that come later.";
  spec.usage = "spillway vault --config FILE.ini [options]";
  spec.sections = {"model", "data", "train", "federation", "run"};
  const auto config = parse(spec, arguments);
  return config ? static_cast<int>(spillway::run_vault(*config)) : 0;
}

}  // namespace spillway::cli
