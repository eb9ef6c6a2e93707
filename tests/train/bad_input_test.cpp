// What users get wrong, each with its one clear line and its exit code.
#include "model/layout.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "train/training_state.hpp"

using namespace spillway;
using runs::operator+;

namespace {

struct Setup {
  TemporaryFolder folder;
  std::filesystem::path data = folder.path() / "data";
  Setup() { runs::write_data(data); }

  runs::Result train(const runs::Arguments& extra, int ranks = 0) const {
    return runs::run(
        ranks,
        runs::Arguments{"train", "--train.steps", "4", "--run.dir", (folder.path() / "run").string()} +
            runs::small_model(data) + extra,
        folder.path());
  }
};

void require(const runs::Result& result, int status, const std::string& message) {
  INFO(result.output);
  REQUIRE(result.status == status);
  REQUIRE(result.output.find(message) != std::string::npos);
}

}  // namespace

TEST_CASE("impossible sizes name their keys") {
  const Setup setup;
  const auto with = [&](runs::Arguments replaced) {
    auto arguments = runs::Arguments{"train", "--run.dir", (setup.folder.path() / "run").string()};
    auto model = runs::small_model(setup.data);
    for (std::size_t i = 0; i + 1 < replaced.size(); i += 2)
      for (std::size_t j = 0; j + 1 < model.size(); j += 2)
        if (model[j] == replaced[i]) model[j + 1] = replaced[i + 1];
    return runs::run(0, arguments + model, setup.folder.path());
  };
  require(with({"--model.heads", "3"}), 64, "model.heads");
  require(with({"--train.tokens-per-step", "500"}), 64,
          "train.tokens-per-step = 500: must be a positive multiple of model.sequence = 32");
  require(setup.train({}, 3), 64,
          "train.tokens-per-step = 512 is 16 sequences of 32 tokens, which 3 ranks cannot share equally");
  require(setup.train({"--train.micro-batch", "5"}), 64,
          "train.micro-batch = 5: must divide a rank's 16 sequences per step");
}

TEST_CASE("unknown keys name the nearest known one") {
  const Setup setup;
  require(setup.train({"--model.widht", "64"}), 64, "unknown key 'model.widht'; did you mean 'model.width'?");
  const auto file = setup.folder.path() / "bad.ini";
  std::ofstream(file) << "[train]\nstpes = 5\n";
  require(setup.train({"--config", file.string()}), 64,
          file.string() + ": unknown key 'train.stpes'; did you mean 'train.steps'?");
  std::ofstream(file) << "[train]\nsteps = many\n";
  require(setup.train({"--config", file.string()}), 64, "train.steps = 'many': expected a whole number");
  require(setup.train({"--config", (setup.folder.path() / "missing.ini").string()}), 64, "cannot be read");
}

TEST_CASE("a checkpoint of other sizes is refused, and is still there") {
  const Setup setup;
  require(setup.train({}), 0, "complete");
  auto arguments = runs::Arguments{"train", "--run.dir", (setup.folder.path() / "run").string()} +
                   runs::small_model(setup.data);
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
    if (arguments[i] == "--model.width") arguments[i + 1] = "128";
  require(runs::run(0, arguments, setup.folder.path()), 65, "but the configuration wants");
  runs::newest(setup.folder.path() / "run" / "local").verify();
}

TEST_CASE(
    "a checkpoint whose sizes are not its tensors' is refused as verify refuses it, though its digests are "
    "right") {
  const Setup setup;
  require(setup.train({}), 0, "complete");
  const auto site = setup.folder.path() / "run" / "local";
  const CheckpointReader good = runs::newest(site);
  RunSetup own;
  own.spec = read_sizes(good);
  own.layout = make_layout(own.spec);
  const TrainingState state = read_training_state(good, own);
  ++own.spec.layers;
  const auto forged = site / CheckpointFolder::file_name(CheckpointFolder::number_of(good.file()) + 1);
  write_training_state(forged, state, Config(), own);
  CheckpointReader(forged).verify();

  const std::string message = forged.string() + ": dataset /optimizer/";
  require(runs::run(0, {"verify", forged.string()}, setup.folder.path()), 65, message);
  require(setup.train({"--train.resume", forged.string()}), 65, message);
  require(setup.train({"--train.resume", "auto"}), 0, "resuming from " + good.file().string());
}

TEST_CASE("missing data and missing hub are named with their remedy") {
  const Setup setup;
  require(
      runs::run(0, {"train", "--data.dir", (setup.folder.path() / "nowhere").string()}, setup.folder.path()),
      65, "make it with spillway tokenize");
  require(setup.train({"--federation.hub", "127.0.0.1:1", "--federation.hub-deadline", "1s"}), 74,
          "no hub at 127.0.0.1:1 within 1s: is it running, and can its port be reached from here?");
  require(setup.train({"--train.device", "gpu"}), 64, "train.device = gpu");
}

TEST_CASE("two runs cannot write one folder") {
  const Setup setup;
  const auto endless = runs::Arguments{"train", "--train.steps", "100000", "--run.dir",
                                       (setup.folder.path() / "run").string()} +
                       runs::small_model(setup.data);
  const auto log = setup.folder.path() / "first.log";
  Process first(runs::command(0, endless, log));
  while (runs::read_file(log).find("step 1/") == std::string::npos && first.running()) first.wait(0.05);
  require(setup.train({}), 74, "another run writes its checkpoints here");
  first.signal(SIGTERM);
  REQUIRE(first.wait(30));
  REQUIRE(first.status() == 75);
}
