// `spillway windows`, run as a user runs it.
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/process.hpp"
#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

const std::string kDemoDay = SPILLWAY_SOURCE_DIR "/traces/demo_day.csv";

Outcome windows(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "windows");
  return run_spillway(arguments);
}

}  // namespace

TEST_CASE("windows as CSV, JSON and table") {
  const std::vector<std::string> texas = {"--signal", kDemoDay,       "--region", "texas",   "--open-below",
                                          "100",      "--min-length", "0",        "--format"};
  const auto with = [&](const std::string& format) {
    auto arguments = texas;
    arguments.push_back(format);
    return windows(arguments);
  };
  const Outcome csv = with("csv");
  CHECK(csv.status == 0);
  CHECK(csv.output ==
        "start,end,minutes\n"
        "2026-06-01T02:20:00Z,2026-06-01T05:40:00Z,200\n"
        "2026-06-01T12:10:00Z,2026-06-01T15:00:00Z,170\n");
  const auto json = nlohmann::json::parse(with("json").output);
  CHECK(json.at("windows").size() == 2);
  CHECK(json.at("windows")[1].at("end") == "2026-06-01T15:00:00Z");
  const Outcome table = with("table");
  CHECK(table.output.find("2 windows, 6.2 h open of 18.0 h (34 %)") != std::string::npos);
}

TEST_CASE("bad command lines of windows say what is wrong") {
  Outcome outcome = windows({"--signal", kDemoDay, "--region", "mars", "--open-below", "100"});
  CHECK(outcome.status == 65);
  CHECK(outcome.output.find(
            "no region 'mars'; choose with --signal.region one of: california, texas, south_australia") !=
        std::string::npos);
  outcome = windows({"--signal", kDemoDay, "--region", "texas"});
  CHECK(outcome.status == 64);
  CHECK(outcome.output.find("give one of gate.open-below, gate.open-above (in g/kWh) and gate.percentile") !=
        std::string::npos);
  outcome = windows({"--signal", kDemoDay, "--open-belw", "3"});
  CHECK(outcome.status == 64);
  CHECK(outcome.output.find("unknown key 'open-belw'; did you mean 'open-below'?") != std::string::npos);
  CHECK(windows({"--region", "texas", "--open-below", "1"}).status == 64);
  CHECK(windows({"--signal", kDemoDay, "--region", "texas", "--open-below", "1", "--format", "xml"}).status ==
        64);
}

TEST_CASE("the generator writes the committed sample signal") {
  const TemporaryFolder folder;
  ProcessOptions options;
  options.arguments = {"python3", SPILLWAY_SOURCE_DIR "/traces/make_demo_day.py"};
  options.output_file = (folder.path() / "generated.csv").string();
  Process process(options);
  REQUIRE(process.wait(60));
  REQUIRE(*process.status() == 0);
  std::stringstream generated, committed;
  generated << std::ifstream(options.output_file).rdbuf();
  committed << std::ifstream(kDemoDay).rdbuf();
  CHECK(generated.str() == committed.str());
}
