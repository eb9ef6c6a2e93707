// `spillway signal`, run as a user runs it.
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"

namespace {

// A price with a gap, in a zone, at the ends of irregular intervals.
const std::string kPrices =
    "Interval End;A (EUR/MWh);B, north (EUR/MWh)\n2024-06-01 02:00;1;10\n2024-06-01 03:00;-2;20\n2024-06-01 "
    "04:00;3;30\n2024-06-01 04:30;4;40\n2024-06-01 05:00;5;50\n2024-06-01 05:30;6;60\n2024-06-01 06:00;7;70\n"
    "2024-06-01 12:00;8;80\n";

}  // namespace

TEST_CASE("signal info says what was understood") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "prices.csv").string();
  std::ofstream(file) << kPrices;
  const std::vector<std::string> base = {"signal",     "info",          file,      "--region", "A (EUR/MWh)",
                                         "--timezone", "Europe/Berlin", "--format"};
  auto arguments = base;
  arguments.push_back("json");
  const auto info = nlohmann::json::parse(run_spillway(arguments).output);
  CHECK(info.at("unit") == "EUR/MWh");
  CHECK(info.at("zone") == "Europe/Berlin");
  CHECK(info.at("stamps_end") == true);
  CHECK(info.at("step_s") == 1800);
  CHECK(info.at("start") == "2024-05-31T23:00:00Z");
  CHECK(info.at("gaps").size() == 1);
  CHECK(info.at("percentiles").at("0") == -2);
  arguments = base;
  arguments.push_back("text");
  const Outcome text = run_spillway(arguments);
  CHECK(text.status == 0);
  CHECK(text.output.find("stamps    ends of intervals") != std::string::npos);
  CHECK(text.output.find("▁") != std::string::npos);
  CHECK(run_spillway({"signal", "formats"}).output.find("aemo-price-demand") != std::string::npos);
  CHECK(run_spillway({"signal", "chart", file}).status == 64);
  CHECK(run_spillway({"signal", "info", (folder.path() / "absent").string()}).status == 65);
}

TEST_CASE("names of a hostile length are shortened in what is printed") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "long.csv").string();
  const std::string name(1'000'000, 'x'), brief = std::string(60, 'x') + "…";
  std::ofstream(file) << "time," << name << "\n2026-01-01T00:00:00Z,5\n";
  Outcome outcome = run_spillway({"signal", "info", file});
  CHECK(outcome.status == 65);
  CHECK(outcome.output.find("column " + brief + ": 1 samples; a signal needs at least two") !=
        std::string::npos);
  CHECK(outcome.output.size() < 2000);
  std::ofstream(file) << name << ",a\n2026-01-01T00:00:00Z,5\n2026-01-01T01:00:00Z,6\n";
  CHECK(run_spillway({"signal", "info", file}).output.size() < 5000);
  std::ofstream(file) << "time," << name << "\n2026-01-01T00:00:00Z,5\n2026-01-01T01:00:00Z,6\n";
  outcome = run_spillway({"signal", "info", file});
  CHECK(outcome.status == 0);
  CHECK(outcome.output.size() < 5000);
}

TEST_CASE("signal convert writes a file that has the same windows") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "prices.csv").string(),
                    converted = (folder.path() / "converted.csv").string();
  std::ofstream(file) << kPrices;
  const std::string region = "B, north (EUR/MWh)";
  REQUIRE(run_spillway({"signal", "convert", file, "--region", region, "--timezone", "Europe/Berlin",
                        "--output", converted})
              .status == 0);
  const auto windows = [&](const std::string& signal, const std::string& name) {
    return run_spillway({"windows", "--signal", signal, "--region", name, "--timezone", "Europe/Berlin",
                         "--min-length", "0", "--open-below", "65", "--format", "csv"})
        .output;
  };
  const std::string expected = "start,end,minutes\n2024-05-31T23:00:00Z,2024-06-01T03:30:00Z,270\n";
  CHECK(windows(file, region).find(expected) != std::string::npos);
  CHECK(windows(converted, region).find(expected) != std::string::npos);
}
