// `spillway plan`, run as a user runs it.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"

namespace {

const std::string kDay = SPILLWAY_SOURCE_DIR "/traces/demo_day.csv";

std::vector<std::string> demo(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"plan",
                                        "--config",
                                        SPILLWAY_SOURCE_DIR "/traces/demo.ini",
                                        "--signal.file",
                                        kDay,
                                        "--simulate.tokens",
                                        "5e9",
                                        "--simulate.tokens-per-s",
                                        "192e3"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

nlohmann::json plan(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = demo(more);
  arguments.insert(arguments.end(), {"--format", "json"});
  const Outcome outcome = run_spillway(arguments);
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  return nlohmann::json::parse(outcome.output);
}

std::string read(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Five days of one region that is low for some hours of each, later every day.
void write_days(const std::filesystem::path& path) {
  std::ofstream file(path);
  file << "point_time,hill\n";
  for (int hour = 0; hour < 24 * 6; ++hour) {
    const int day = hour / 24, low_from = 6 + day % 3;
    const bool low = hour % 24 >= low_from && hour % 24 < low_from + 6;
    file << "2026-03-0" << 1 + day << "T" << (hour % 24 < 10 ? "0" : "") << hour % 24 << ":00:00Z,"
         << (low ? 20 : 500) << "\n";
  }
}

}  // namespace

TEST_CASE("a plan's JSON holds windows, overlaps and sums that agree") {
  const auto document = plan({});
  CHECK(document.at("format") == "spillway-plan");
  CHECK(document.at("version") == 1);
  CHECK(document.at("policy") == "forecast");
  REQUIRE(document.at("sites").size() == 3);
  double tokens = 0, kwh = 0, kg = 0;
  for (const auto& site : document.at("sites")) {
    tokens += site.at("tokens").get<double>();
    kwh += site.at("energy_kwh").get<double>();
    kg += site.at("emissions_kg").get<double>();
    double end = 0;
    for (const auto& window : site.at("windows")) {
      CHECK(window.at("start_unix_s").get<double>() >= end);
      end = window.at("end_unix_s").get<double>();
      CHECK(window.at("minutes").get<double>() * 60 == Approx(end - window.at("start_unix_s").get<double>()));
      CHECK(window.at("open_part").is_null());
    }
  }
  CHECK(tokens == Approx(document.at("tokens").get<double>()));
  CHECK(kwh == Approx(document.at("energy_kwh").get<double>()));
  CHECK(kg == Approx(document.at("emissions_kg").get<double>()));
  CHECK(document.at("finished") == true);
  CHECK(document.at("uncertainty").is_null());
  CHECK(document.at("overlaps").at(0).at("sites").size() == 2);
}

TEST_CASE("plans and `spillway windows` write the same windows") {
  const auto document = plan({"--tokens", "1e15"});
  const Outcome windows = run_spillway({"windows", "--signal", kDay, "--region", "texas", "--open-below",
                                        "100", "--gate.min-length", "0s", "--format", "json"});
  const auto& texas = document.at("sites").at(1);
  REQUIRE(texas.at("name") == "texas");
  auto listed = nlohmann::json::parse(windows.output).at("windows");
  for (auto& window : listed) window["open_part"] = nullptr;
  CHECK(texas.at("windows") == listed);
  CHECK(document.at("finished") == false);
  CHECK(document.at("finish").is_null());
}

TEST_CASE("a plan's spread comes from the days before") {
  const TemporaryFolder folder;
  write_days(folder.path() / "days.csv");
  const std::vector<std::string> arguments = {"plan",
                                              "--signal",
                                              (folder.path() / "days.csv").string(),
                                              "--gate.open-below",
                                              "100",
                                              "--site.train-power",
                                              "1000",
                                              "--simulate.tokens-per-s",
                                              "1e5",
                                              "--tokens",
                                              "1.5e9",
                                              "--from",
                                              "2026-03-05T00:00:00Z"};
  std::vector<std::string> json = arguments;
  json.insert(json.end(), {"--format", "json"});
  const Outcome outcome = run_spillway(json);
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  const auto document = nlohmann::json::parse(outcome.output);
  const auto& uncertainty = document.at("uncertainty");
  CHECK(uncertainty.at("draws") == 200);
  CHECK(uncertainty.at("finish_probability") == 1);
  const auto& hours = uncertainty.at("runtime_h");
  CHECK(hours.at("p10").get<double>() <= hours.at("p50").get<double>());
  CHECK(hours.at("p50").get<double>() <= hours.at("p90").get<double>());
  const double part = document.at("sites").at(0).at("windows").at(0).at("open_part").get<double>();
  CHECK(part > 0.3);
  CHECK(part < 1);
  CHECK(run_spillway(json).output == outcome.output);
  const Outcome text = run_spillway(arguments);
  for (const char* word : {"p10", "p90", "finishes in 100 % of them", "open %"})
    CHECK(text.output.find(word) != std::string::npos);
}

TEST_CASE("a plan as CSV, page and picture") {
  const TemporaryFolder folder;
  const auto html = folder.path() / "plan.html", svg = folder.path() / "plan.svg";
  const Outcome csv =
      run_spillway(demo({"--format", "csv", "--html", html.string(), "--timeline", svg.string()}));
  REQUIRE(csv.status == 0);
  CHECK(csv.output.starts_with("site,start,end,minutes\ncalifornia,2026-06-01T00:40:00Z,"));
  CHECK(read(html).find("texas with california") != std::string::npos);
  CHECK(read(svg).starts_with("<svg "));
  CHECK(read(svg).find("<style>") != std::string::npos);
}

TEST_CASE("bad plans say what is wrong") {
  const Outcome draws = run_spillway(demo({"--draws", "-1"}));
  CHECK(draws.status == 64);
  CHECK(draws.output.find("--draws -1: must be from 0 to 100000") != std::string::npos);
  const Outcome format = run_spillway(demo({"--format", "pdf"}));
  CHECK(format.status == 64);
  CHECK(format.output.find("--format pdf: must be text, csv or json") != std::string::npos);
  const Outcome policy = run_spillway(demo({"--policy", "psychic"}));
  CHECK(policy.output.find("must be reactive, hysteresis, forecast, foresight or oracle") !=
        std::string::npos);
}
