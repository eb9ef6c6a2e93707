// What a run reports: the same numbers in checkpoint, log, JSON and page, through suspends and crashes.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "energy/energy_ledger.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "train/telemetry.hpp"
#include "train/training_state.hpp"

using namespace spillway;
using nlohmann::json;
using runs::operator+;

namespace {

// 100 g/kWh below the threshold of 200 for the first hour of the replay, 400 after it.
void write_signal(const std::filesystem::path& file) {
  std::ofstream stream(file);
  stream << "point_time,here\n";
  for (int i = 0; i < 24; ++i)
    stream << "2026-06-01 " << (i / 2 < 10 ? "0" : "") << i / 2 << (i % 2 == 0 ? ":00" : ":30")
           << ":00+00:00," << (i < 20 ? 100 : 400) << "\n";
}

runs::Arguments powered(const std::filesystem::path& folder) {
  return runs::small_model(folder / "data") + runs::Arguments{"--run.dir",
                                                              (folder / "run").string(),
                                                              "--site.train-power",
                                                              "2024",
                                                              "--site.idle-power",
                                                              "468",
                                                              "--site.pue",
                                                              "1.2",
                                                              "--signal.file",
                                                              (folder / "signal.csv").string(),
                                                              "--signal.region",
                                                              "here",
                                                              "--gate.open-below",
                                                              "200",
                                                              "--clock.mode",
                                                              "replay",
                                                              "--clock.start",
                                                              "2026-06-01T00:00:00Z",
                                                              "--clock.speed",
                                                              "60",
                                                              "--site.telemetry-every",
                                                              "50ms"};
}

std::int64_t sum(const json& object, const char* field) {
  std::int64_t total = 0;
  for (const auto& [name, part] : object.items()) total += part.at(field).get<std::int64_t>();
  return total;
}

}  // namespace

TEST_CASE("report, checkpoint and log agree to the last millijoule, through a suspend and a crash") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signal(folder.path() / "signal.csv");
  const auto train = runs::Arguments{"train", "--train.steps", "60"} + powered(folder.path());
  const auto first = runs::run(1, train + runs::Arguments{"--train.stop-after", "20"}, folder.path());
  INFO(first.output);
  REQUIRE(first.status == 75);
  const auto site = folder.path() / "run" / "local";
  const auto log = site / TelemetryLog::kFileName;
  const EnergyLedger suspended = TelemetryLog::read(log).back().energy;

  // A job that dies after its log has gone on: the energy stays used, the steps do not stay done.
  TelemetryLine lost = TelemetryLog::read(log).back();
  lost.event = "sample";
  lost.unix_s += 100;
  lost.energy.add(Phase::solo, 5e5, lost.unix_s - 100, lost.unix_s, nullptr, {});
  TelemetryLog(log, false).append(lost);
  std::ofstream(log, std::ios::app) << "0123456789abcdef torn";
  const auto second = runs::run(1, train, folder.path());
  INFO(second.output);
  REQUIRE(second.status == 0);

  const auto lines = TelemetryLog::read(log);
  const CheckpointReader reader = runs::newest(site);
  const EnergyLedger kept = read_energy(reader);
  CHECK(kept.total_mj() > suspended.total_mj() + 500'000'000);
  const auto checkpoint = std::find_if(lines.rbegin(), lines.rend(),
                                       [](const TelemetryLine& line) { return line.event == "checkpoint"; });
  REQUIRE(checkpoint != lines.rend());
  CHECK(checkpoint->energy == kept);
  CHECK(lines.back().event == "end");

  const json document = runs::report(folder.path() / "run");
  const json& own = document.at("sites").at(0);
  CHECK(document.at("state") == "complete");
  CHECK(own.at("energy").at("energy_mj") == lines.back().energy.total_mj());
  CHECK(own.at("energy_after_checkpoint_mj") == lines.back().energy.total_mj() - kept.total_mj());
  CHECK(document.at("energy").at("energy_mj") == own.at("energy").at("energy_mj"));
  CHECK(own.at("energy").at("energy_kwh").get<double>() == lines.back().energy.energy_kwh());
  CHECK(sum(own.at("energy").at("phases"), "energy_mj") == lines.back().energy.total_mj());
  CHECK(sum(own.at("energy").at("components"), "energy_mj") == lines.back().energy.total_mj());
  CHECK(own.at("energy").at("accounts").at("marginal").at("emissions_ug") ==
        lines.back().energy.emissions_ug(Account::marginal));
  std::int64_t jobs = 0;
  for (const json& job : own.at("jobs")) jobs += job.at("energy_mj").get<std::int64_t>();
  CHECK(own.at("jobs").size() == 2);
  CHECK(jobs == lines.back().energy.total_mj());
  CHECK(own.at("provenance").at("digest") == reader.digest());
  CHECK(document.at("curves").at("validation").at("local").size() >= 3);
  CHECK(document.at("baselines").at("always_on").at("local").at("emissions_g").is_number());

  // The page says the same, from itself alone.
  const auto made = runs::run(0, {"report", (folder.path() / "run").string()}, folder.path());
  REQUIRE(made.status == 0);
  const std::string page = runs::read_file(folder.path() / "run" / "report.html");
  CHECK(page.find(reader.digest()) != std::string::npos);
  for (const char* outside : {"<script", "<link", "<img", "src=", "@import", "url("}) {
    INFO(outside);
    CHECK(page.find(outside) == std::string::npos);
  }
  CHECK(page.find("https://") == std::string::npos);
  const auto csv =
      runs::run(0, {"report", (folder.path() / "run").string(), "--format", "csv"}, folder.path());
  CHECK(csv.output.find("site,time,step,tokens,tokens_per_s,energy_kwh,emissions_g\nlocal,2026-06-01T") !=
        std::string::npos);
  const auto markdown =
      runs::run(0, {"report", (folder.path() / "run").string(), "--format", "md"}, folder.path());
  CHECK(markdown.output.find("| baseline |") != std::string::npos);
}

TEST_CASE(
    "a suspended run uses the declared powers for as long as it ran, as an uninterrupted one, once per "
    "site") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  write_signal(folder.path() / "signal.csv");
  const int ranks = GENERATE(1, 2);
  const auto train = runs::Arguments{"train", "--train.steps", "40"} + powered(folder.path());
  const bool suspended = GENERATE(false, true);
  INFO(ranks << " ranks, suspended: " << suspended);
  for (const char* stop : {"20", "0"})
    if (suspended || *stop == '0') {
      const auto result =
          runs::run(ranks, train + runs::Arguments{"--train.stop-after", stop}, folder.path());
      INFO(result.output);
      REQUIRE(result.status == (*stop == '0' ? 0 : 75));
    }
  // Of every job, from its first line on.
  double expected_j = 0, booked_j = 0;
  const auto lines = TelemetryLog::read(folder.path() / "run" / "local" / TelemetryLog::kFileName);
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].event == "start") continue;
    const double power_w = lines[i].phase == Phase::idle ? 468 : 2024;
    expected_j += power_w * 1.2 * (lines[i].unix_s - lines[i - 1].unix_s);
    booked_j += static_cast<double>(lines[i].energy.since(lines[i - 1].energy).total_mj()) * 1e-3;
  }
  CHECK(expected_j > 1000);
  CHECK(booked_j == Approx(expected_j).epsilon(1e-3));
}

TEST_CASE("a report of a run that has only begun, or lost its checkpoints, says so") {
  const TemporaryFolder folder;
  const auto site = folder.path() / "run" / "texas";
  std::filesystem::create_directories(site);
  TelemetryLine line;
  line.event = "start";
  line.unix_s = 1780272000;
  line.job = "4711";
  TelemetryLog log(site / TelemetryLog::kFileName, true);
  log.append(line);
  line.event = "sample";
  line.unix_s += 3600;
  line.tokens = 1000;
  line.energy.add(Phase::solo, 3.6e6, 1780272000, line.unix_s, nullptr, {});
  log.append(line);
  std::ofstream(folder.path() / "sacct") << "JobIDRaw|ConsumedEnergyRaw\n4711|1800000\n4711.batch|5\n";
  const json document = runs::report(folder.path() / "run", {"--sacct", (folder.path() / "sacct").string()});
  CHECK(document.at("state") == "running");
  CHECK(document.at("notes").at(0) ==
        "texas: no checkpoint yet: its configuration and losses per step are not known");
  CHECK(document.at("energy").at("energy_kwh") == 1.0);
  CHECK(document.at("energy").at("accounts").at("marginal").at("unknown_kwh") == 1.0);
  CHECK(document.at("sites").at(0).at("jobs").at(0).at("batch_kwh") == 0.5);
  const auto page = runs::run(0, {"report", (folder.path() / "run").string(), "--out", "-"}, folder.path());
  CHECK(page.output.find("not known: no carbon intensity") != std::string::npos);

  std::ofstream(folder.path() / "sacct") << "4711|many\n";
  const auto bad = runs::run(
      0, {"report", (folder.path() / "run").string(), "--sacct", (folder.path() / "sacct").string()},
      folder.path());
  CHECK(bad.status == 65);
  CHECK(bad.output.find("sacct: line 1: 'many' is no energy in joules") != std::string::npos);

  std::ofstream(site / TelemetryLog::kFileName, std::ios::in | std::ios::out).put('x');
  const auto damaged =
      runs::run(0, {"report", (folder.path() / "run").string(), "--out", "-"}, folder.path());
  CHECK(damaged.status == 0);
  CHECK(damaged.output.find("line 1 does not match its checksum: the energy log is damaged") !=
        std::string::npos);

  const auto none = runs::run(0, {"report", folder.path().string()}, folder.path());
  CHECK(none.status == 65);
  CHECK(none.output.find("this is no run: it has neither a hub's journal nor a site's checkpoints") !=
        std::string::npos);
}
