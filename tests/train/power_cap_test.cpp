// Power caps of whole jobs, on the declared power model in replayed time.
#include <nlohmann/json.hpp>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "train/telemetry.hpp"

using namespace spillway;
using nlohmann::json;
using runs::operator+;

namespace {

// 2000 W while training, nothing while idle; a window from the start on. more: of the run.
runs::Result train(const std::filesystem::path& folder, const std::string& name, const runs::Arguments& more,
                   int ranks = 1) {
  return runs::run(ranks,
                   runs::Arguments{"train"} + runs::small_model(folder / "data") +
                       runs::Arguments{"--run.dir",           (folder / name).string(),
                                       "--site.train-power",  "2000",
                                       "--signal.file",       (folder / "signal.csv").string(),
                                       "--signal.region",     "here",
                                       "--gate.open-below",   "100",
                                       "--gate.min-length",   "0",
                                       "--clock.mode",        "replay",
                                       "--clock.start",       "2026-06-01T00:00:00Z",
                                       "--clock.speed",       "60",
                                       "--train.micro-batch", "4"} +
                       more,
                   folder);
}

void write_signals(const std::filesystem::path& folder, const std::string& excess_kw) {
  std::ofstream(folder / "signal.csv")
      << "point_time,here\n2026-06-01T00:00:00Z,50\n2026-06-01T12:00:00Z,50\n";
  std::ofstream(folder / "excess.csv") << "point_time,here (kW)\n2026-06-01T00:00:00Z," << excess_kw
                                       << "\n2026-06-01T12:00:00Z," << excess_kw << "\n";
}

struct Stretch {
  double seconds = 0, joules = 0;  // simulated
  double mean_w() const { return joules / seconds; }
};

// Of training alone: validations and checkpoints left out.
Stretch trained(const std::filesystem::path& site) {
  const auto log = TelemetryLog::read(site / TelemetryLog::kFileName);
  Stretch stretch;
  for (std::size_t i = 1; i < log.size(); ++i)
    if (log[i].phase == Phase::solo) {
      stretch.seconds += log[i].unix_s - log[i - 1].unix_s;
      stretch.joules += static_cast<double>(log[i].energy.since(log[i - 1].energy).total_mj()) * 1e-3;
    }
  return stretch;
}

}  // namespace

TEST_CASE("a cap of half the power: about half of it used, half of the time paused, the same bits trained") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signals(folder.path(), "1");
  const runs::Arguments steps = {"--train.steps", "150"};
  const int ranks = GENERATE(1, 2);
  const auto free = train(folder.path(), "free", steps, ranks);
  INFO(free.output);
  REQUIRE(free.status == 0);
  const auto capped =
      train(folder.path(), "capped", steps + runs::Arguments{"--site.power-cap", "1kW"}, ranks);
  INFO(capped.output);
  REQUIRE(capped.status == 0);
  CHECK(capped.output.find("power cap 1000 W: by pauses between micro-batches (it computes on CPUs)") !=
        std::string::npos);

  const Stretch all = trained(folder.path() / "free" / "local"),
                half = trained(folder.path() / "capped" / "local");
  CHECK(all.mean_w() == Approx(2000).epsilon(1e-4));
  CHECK(half.mean_w() == Approx(1000).epsilon(0.05));
  // In the ledger the pauses are idle: here without power, so that all energy is that of the work.
  const auto log = TelemetryLog::read(folder.path() / "capped" / "local" / TelemetryLog::kFileName);
  CHECK(log.back().energy.phase_mj(Phase::idle) == 0);
  CHECK(log[log.size() / 2].power_cap_w == 1000.0);
  const auto difference = runs::run(0,
                                    {"diff", runs::newest(folder.path() / "free" / "local").file().string(),
                                     runs::newest(folder.path() / "capped" / "local").file().string()},
                                    folder.path());
  INFO(difference.output);
  CHECK(difference.status == 0);

  const json cap = runs::report(folder.path() / "capped").at("sites").at(0).at("power_cap");
  CHECK(cap.at("setting") == 1000.0);
  CHECK(cap.at("highest_w") == 1000.0);
  CHECK(cap.at("mean_power_w").get<double>() == Approx(half.mean_w()));
}

TEST_CASE("ranks do not take each other's pauses for work: far below the full power they train on") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signals(folder.path(), "1");
  // 9 seconds of pause per second of work.
  const auto capped = train(folder.path(), "capped",
                            {"--train.steps", "40", "--train.log-every", "1", "--site.power-cap", "200W"}, 2);
  INFO(capped.output);
  REQUIRE(capped.status == 0);
  CHECK(trained(folder.path() / "capped" / "local").mean_w() < 1000);
}

TEST_CASE("in a window a site capped at half its power trains about half as much, for half the energy") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signals(folder.path(), "1");
  std::ofstream(folder.path() / "signal.csv")
      << "point_time,here\n2026-06-01T00:00:00Z,50\n2026-06-01T00:06:00Z,500\n2026-06-01T00:12:00Z,500\n";
  const runs::Arguments many = {"--train.steps", "1000000"};
  const auto tokens = [&](const std::string& name) {
    return TelemetryLog::read(folder.path() / name / "local" / TelemetryLog::kFileName).back().tokens;
  };
  REQUIRE(train(folder.path(), "free", many).status == 75);
  const auto capped =
      train(folder.path(), "capped",
            many + runs::Arguments{"--site.power-cap", "excess", "--site.min-power", "500W", "--excess.file",
                                   (folder.path() / "excess.csv").string(), "--excess.region", "here"});
  INFO(capped.output);
  REQUIRE(capped.status == 75);
  CHECK(trained(folder.path() / "capped" / "local").mean_w() == Approx(1000).epsilon(0.05));
  const double part = static_cast<double>(tokens("capped")) / static_cast<double>(tokens("free"));
  INFO("part of the tokens: " << part);
  // Two runs on a machine that others use, too.
  CHECK(part > 0.2);
  CHECK(part < 0.9);
}

TEST_CASE("power caps that cannot be kept are refused") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signals(folder.path(), "1");
  const auto refused = [&](const runs::Arguments& more) {
    const auto result = train(folder.path(), "refused", runs::Arguments{"--train.steps", "5"} + more);
    CHECK(result.status == 64);
    return result.output;
  };
  CHECK(refused({"--site.power-cap", "lots"}).find("expected a number") != std::string::npos);
  CHECK(refused({"--site.power-cap", "0"}).find("expected a power such as 1.5kW or 800W") !=
        std::string::npos);
  CHECK(refused({"--site.power-cap", "400W", "--site.idle-power", "400"})
            .find("site.power-cap = 400 W is not more than its idle power, 400 W with the PUE") !=
        std::string::npos);
  CHECK(refused({"--site.power-cap", "excess"}).find("needs excess.file or excess.provider") !=
        std::string::npos);
}
