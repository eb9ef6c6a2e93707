// Suspend and resume against an uninterrupted run; several ranks against one.
#include <map>
#include <utility>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"

using namespace spillway;
using runs::operator+;

namespace {

// All datasets with their checksums but the configuration's text, which names the run's folder.
std::map<std::string, std::string> state_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> checksums;
  const CheckpointReader reader = runs::newest(folder);
  reader.verify();
  for (const DatasetInfo& info : reader.datasets())
    if (info.path != "/config") checksums[info.path] = info.checksum;
  return checksums;
}

}  // namespace

TEST_CASE("40 steps equal 20 steps, suspended, and 20 more, in every byte") {
  const int ranks = GENERATE(1, 2);
  INFO(ranks << " ranks");
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  const auto common =
      runs::Arguments{"train", "--train.steps", "40"} + runs::small_model(folder.path() / "data");

  const auto whole = runs::run(
      ranks, common + runs::Arguments{"--run.dir", (folder.path() / "whole").string()}, folder.path());
  INFO(whole.output);
  REQUIRE(whole.status == 0);

  const runs::Arguments halves = common + runs::Arguments{"--run.dir", (folder.path() / "halves").string()};
  const auto first = runs::run(ranks, halves + runs::Arguments{"--train.stop-after", "20"}, folder.path());
  INFO(first.output);
  REQUIRE(first.status == 75);
  const auto second = runs::run(ranks, halves, folder.path());
  INFO(second.output);
  REQUIRE(second.status == 0);

  const auto expected = state_of(folder.path() / "whole" / "local");
  const auto found = state_of(folder.path() / "halves" / "local");
  REQUIRE(expected.size() > 40);
  REQUIRE(found == expected);
}

// Without learned scalars: at the first step their true gradients are zero, and AdamW makes whole steps of the rounding noise,
// whose signs depend on the number of ranks and on the processor.
TEST_CASE("1, 2 and 4 ranks agree at equal global batch") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  std::vector<std::vector<double>> losses;
  for (const int ranks : {1, 2, 4}) {
    const auto run_folder = folder.path() / std::to_string(ranks);
    const auto result = runs::run(ranks,
                                  runs::Arguments{"train", "--train.steps", "4", "--model.scalars", "off",
                                                  "--run.dir", run_folder.string()} +
                                      runs::small_model(folder.path() / "data"),
                                  folder.path());
    INFO(result.output);
    REQUIRE(result.status == 0);
    losses.push_back(runs::newest(run_folder / "local").read_doubles("/history/loss_nats"));
    REQUIRE(losses.back().size() == 4);
  }
  for (std::size_t step = 0; step < 4; ++step) {
    INFO("step " << step);
    // The first two steps see parameters that differ by fp32 rounding alone; Muon's bf16 roundings amplify it later.
    const double tolerance = step < 2 ? 2e-6 : 1e-3;
    CHECK(losses[1][step] == Approx(losses[0][step]).epsilon(tolerance));
    CHECK(losses[2][step] == Approx(losses[0][step]).epsilon(tolerance));
  }
}

TEST_CASE("a checkpoint resumes on another number of ranks") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  const auto common =
      runs::Arguments{"train", "--train.steps", "8"} + runs::small_model(folder.path() / "data");
  std::vector<std::vector<double>> losses;
  for (const auto& [first, second] : {std::pair{1, 1}, std::pair{2, 1}, std::pair{1, 4}, std::pair{4, 2}}) {
    const auto run_folder = folder.path() / (std::to_string(first) + "-" + std::to_string(second));
    const runs::Arguments arguments = common + runs::Arguments{"--run.dir", run_folder.string()};
    const auto start =
        runs::run(first, arguments + runs::Arguments{"--train.stop-after", "4"}, folder.path());
    INFO(start.output);
    REQUIRE(start.status == 75);
    const auto rest = runs::run(second, arguments, folder.path());
    INFO(rest.output);
    REQUIRE(rest.status == 0);
    losses.push_back(runs::newest(run_folder / "local").read_doubles("/history/loss_nats"));
    REQUIRE(losses.back().size() == 8);
    INFO(first << " ranks, then " << second);
    for (std::size_t step = 0; step < 8; ++step)
      CHECK(losses.back()[step] == Approx(losses.front()[step]).epsilon(1e-3));
  }
}

TEST_CASE("a signal suspends also where a library of MPI has taken it for itself") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  const auto log = folder.path() / "run.log";
  auto options = runs::command(
      1,
      runs::Arguments{"train", "--train.steps", "100000", "--run.dir", (folder.path() / "run").string()} +
          runs::small_model(folder.path() / "data"),
      log);
  options.arguments.insert(options.arguments.begin() + 1, "LD_PRELOAD=" SPILLWAY_GREEDY_MPI);
  Process process(options);
  while (runs::read_file(log).find("step 2/") == std::string::npos && process.running()) process.wait(0.05);
  process.signal(SIGUSR1);
  const bool ended = process.wait(60);
  INFO(runs::read_file(log));
  REQUIRE(ended);
  CHECK(process.status() == 75);
  CHECK(runs::read_file(log).find("signal 10 had been taken over by " SPILLWAY_GREEDY_MPI ": taken back") !=
        std::string::npos);
}

TEST_CASE("a launcher that may keep the signal for itself is pointed out") {
  const bool llvm = GENERATE(false, true);
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  const auto log = folder.path() / "run.log";
  auto options = runs::command(
      1,
      runs::Arguments{"train", "--train.steps", "1", "--run.dir", (folder.path() / "run").string()} +
          runs::small_model(folder.path() / "data"),
      log);
  if (llvm) options.arguments.insert(options.arguments.begin() + 1, "LD_PRELOAD=" SPILLWAY_FAKE_LLVM);
  Process process(options);
  REQUIRE(process.wait(60));
  INFO(runs::read_file(log));
  CHECK(process.status() == 0);
  CHECK((runs::read_file(log).find("start mpirun with HWLOC_COMPONENTS=-opencl") != std::string::npos) ==
        llvm);
}

TEST_CASE("a signal suspends in good order and the run completes afterwards") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  const auto arguments =
      runs::Arguments{"train", "--train.steps", "100000", "--run.dir", (folder.path() / "run").string()} +
      runs::small_model(folder.path() / "data");
  const auto log = folder.path() / "first.log";
  Process process(runs::command(2, arguments, log));
  while (runs::read_file(log).find("step 5/") == std::string::npos && process.running()) process.wait(0.05);
  process.signal(SIGUSR1);  // mpirun forwards it to the ranks
  REQUIRE(process.wait(60));
  INFO(runs::read_file(log));
  REQUIRE(process.status() == 75);
  const CheckpointReader checkpoint = runs::newest(folder.path() / "run" / "local");
  checkpoint.verify();
  const std::int64_t step = std::get<std::int64_t>(checkpoint.attributes("/progress").at("step"));
  REQUIRE(step >= 5);
  REQUIRE(std::get<std::int64_t>(checkpoint.attributes("/progress").at("tokens")) == step * 512);
}
