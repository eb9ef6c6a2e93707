// spillway train: the MPI program of one site.
#include "train/trainer.hpp"

#include "cli/commands.hpp"
#include "cli/options.hpp"

namespace spillway::cli {

int run_train(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "train";
  spec.summary =
      "Trains at one site, as an MPI program: mpirun -n R spillway train … Without federation.hub it is an "
      "ordinary trainer.";
  spec.usage = "spillway train --config FILE.ini --site NAME [--device cpu] [--resume auto] [options]";
  spec.aliases = {
      {"site", "site.name"}, {"device", "train.device"}, {"resume", "train.resume"}, {"data", "data.dir"}};
  spec.sections = {"model", "data", "train", "optim", "site", "signal", "gate", "clock", "federation", "run"};
  const auto config = parse(spec, arguments);
  return config ? static_cast<int>(run_training(*config)) : 0;
}

}  // namespace spillway::cli
