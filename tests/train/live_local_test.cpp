// `spillway local` with a site whose signal is live: its job runs while the gate is open.
#include <algorithm>

#include "io/checkpoint_folder.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "tests/unit/stand_in.hpp"
#include "train/telemetry.hpp"

using namespace spillway;
using runs::operator+;

namespace {

// Waits until the site's energy log has `count` lines of an event.
bool wait_for(const std::filesystem::path& log, const std::string& event, int count, Process& process) {
  for (int tries = 0; tries < 3000 && process.running(); ++tries) {
    const auto lines = TelemetryLog::read(log);
    if (std::count_if(lines.begin(), lines.end(),
                      [&](const TelemetryLine& line) { return line.event == event; }) >= count)
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

}  // namespace

TEST_CASE("a live gate starts a site's job, suspends it and starts it again") {
  const StandIn server;
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  std::ofstream(folder.path() / "run.ini")
      << "[local]\nsites = here\nsuspend-lead = 1s\n[site.here]\nsignal.provider = http\nsignal.url = "
      << server.url("/value") << "\nsignal.pointer = /grid/0/mw\nsignal.unit = g/kWh\nsignal.poll = 100ms\n"
      << "[gate]\nopen-below = 100\nmin-length = 0\n[site]\ntrain-power = 2000\n";
  const auto arguments = runs::Arguments{"local",
                                         "--config",
                                         (folder.path() / "run.ini").string(),
                                         "--run.dir",
                                         (folder.path() / "run").string(),
                                         "--train.steps",
                                         "1200",
                                         "--train.log-every",
                                         "0",
                                         "--federation.round-length",
                                         "1s"} +
                         runs::own_ports() + runs::small_model(folder.path() / "data");
  Process process(runs::command(0, arguments, folder.path() / "log"));
  const auto site = folder.path() / "run" / "here";
  const auto log = site / TelemetryLog::kFileName;
  REQUIRE(wait_for(log, "round", 2, process));
  server.get("/set?400");
  REQUIRE(wait_for(log, "end", 1, process));
  const auto suspended = std::get<std::int64_t>(runs::newest(site).attributes("/progress").at("step"));
  server.get("/set?20");
  REQUIRE(process.wait(150));
  INFO(runs::read_file(folder.path() / "log"));
  CHECK(process.status() == 0);
  CHECK(suspended > 0);
  CHECK(suspended < 1200);
  CHECK(std::get<std::int64_t>(runs::newest(site).attributes("/progress").at("step")) == 1200);
  std::vector<std::string> jobs;
  for (const TelemetryLine& line : TelemetryLog::read(log))
    if (line.event == "start" || line.event == "end") jobs.push_back(line.event);
  CHECK(jobs == std::vector<std::string>{"start", "end", "start", "end"});
  // Summary and report tell the same energy, that of the last checkpoint included.
  const auto summary = nlohmann::json::parse(runs::read_file(folder.path() / "run" / "summary.json"));
  const auto report = runs::report(folder.path() / "run");
  CHECK(summary.at("sites").at("here").at("energy_kwh") ==
        report.at("sites").at(0).at("energy").at("energy_kwh"));
  CHECK(summary.at("energy_kwh") == report.at("energy").at("energy_kwh"));
}
