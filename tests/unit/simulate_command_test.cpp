// `spillway simulate`, run as a user runs it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/hash.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"
#include "tests/run_spillway.hpp"
#include "tests/temporary_folder.hpp"
#include "train/gate_description.hpp"

namespace {

const std::string kStudy = SPILLWAY_SOURCE_DIR "/traces/study.ini";

nlohmann::json simulate_study(const std::string& trace, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"simulate", "--config", kStudy, "--signal.file",
                                        trace,      "--format", "json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = run_spillway(arguments);
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  return nlohmann::json::parse(outcome.output);
}

std::vector<std::string> demo(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"simulate",
                                        "--config",
                                        SPILLWAY_SOURCE_DIR "/traces/demo.ini",
                                        "--signal.file",
                                        SPILLWAY_SOURCE_DIR "/traces/demo_day.csv",
                                        "--simulate.tokens",
                                        "5e9",
                                        "--simulate.tokens-per-s",
                                        "192e3"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("the study's numbers come out of its parameters") {
  const auto path = real_trace("study_mci_2026-01-11.csv");
  if (!path) return;
  const auto study = simulate_study(path->string(), {});
  CHECK(study.at("runtime_h").get<double>() == Approx(14.6).epsilon(0.02));
  CHECK(study.at("emissions_kg").get<double>() == Approx(1.36).epsilon(0.03));
  CHECK(study.at("tokens").get<double>() == 12.3e9);
  const auto& baselines = study.at("baselines");
  CHECK(baselines.at("CAISO_NORTH").at("emissions_kg").get<double>() == Approx(11.4).epsilon(0.03));
  CHECK(baselines.at("SPP_TX").at("emissions_kg").get<double>() == Approx(14.5).epsilon(0.03));
  CHECK(baselines.at("NEM_SA").at("emissions_kg").get<double>() == Approx(12.3).epsilon(0.03));
  CHECK(baselines.at("DE").at("emissions_kg").get<double>() == Approx(27.1).epsilon(0.03));
  CHECK(baselines.at("DE").at("runtime_h").get<double>() == Approx(17.8).epsilon(0.01));
  CHECK(study.at("phases").at("drain").at("emissions_kg").get<double>() /
            study.at("emissions_kg").get<double>() ==
        Approx(0.29).margin(0.02));
  CHECK(simulate_study(path->string(), {"--simulate.outside", "idle"}).at("emissions_kg").get<double>() ==
        Approx(8.0).epsilon(0.03));
  const auto ours = simulate_study(path->string(), {"--simulate.start-delay", "60s", "--gate.grace", "30s",
                                                    "--simulate.round-loss", "0.015"});
  CHECK(ours.at("runtime_h").get<double>() <= 13.5);
  CHECK(ours.at("emissions_kg").get<double>() <= 1.05);
  const auto oracle = simulate_study(path->string(), {"--policy", "oracle"});
  CHECK(oracle.at("runtime_h").get<double>() == Approx(13.3).epsilon(0.01));
  CHECK(oracle.at("emissions_kg").get<double>() == Approx(1.02).epsilon(0.01));
}

TEST_CASE("a simulation as table, CSV and JSON") {
  const Outcome table = run_spillway(demo({}));
  CHECK(table.status == 0);
  for (const char* name :
       {"hysteresis", "california", "california+texas", "wait-awhile texas", "random windows"})
    CHECK(table.output.find(name) != std::string::npos);
  const Outcome csv = run_spillway(demo({"--format", "csv", "--all-policies"}));
  CHECK(csv.output.starts_with(
      "run,finished,runtime_h,emissions_kg,energy_kwh,in_window_energy_fraction,starts,tokens\n"));
  CHECK(std::count(csv.output.begin(), csv.output.end(), '\n') == 1 + 5 + 3 + 3 + 3 + 1);
  const auto json = nlohmann::json::parse(run_spillway(demo({"--format", "json"})).output);
  CHECK(json.at("in_window_energy_fraction").get<double>() > 0.99);
  CHECK(json.at("baselines").at("texas").at("energy_kwh").get<double>() > 0);
  CHECK(json.at("emissions_kg").get<double>() <
        json.at("baselines").at("random windows").at("emissions_kg").get<double>());
}

TEST_CASE("a sweep marks what nothing beats, and draws it") {
  const TemporaryFolder folder;
  const std::string plot = (folder.path() / "sweep.svg").string();
  const Outcome outcome = run_spillway(demo({"--sweep", "open-below=50,100,900", "--sweep", "min-length=0,2h",
                                             "--format", "json", "--plot", plot, "--policy", "foresight"}));
  REQUIRE(outcome.status == 0);
  const auto points = nlohmann::json::parse(outcome.output).at("sweep");
  REQUIRE(points.size() == 6);
  CHECK(std::count_if(points.begin(), points.end(),
                      [](const auto& point) { return point.at("pareto") == true; }) >= 2);
  std::ifstream svg(plot);
  std::string head;
  std::getline(svg, head);
  CHECK(head.starts_with("<svg "));
}

TEST_CASE("a simulated run's page names the signal's digest") {
  const TemporaryFolder folder;
  const std::string page = (folder.path() / "page.html").string();
  REQUIRE(run_spillway(demo({"--page", page})).status == 0);
  const auto read = [](const std::string& file) {
    std::ifstream stream(file, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(stream), {}};
  };
  const std::string signal = read(SPILLWAY_SOURCE_DIR "/traces/demo_day.csv");
  CHECK(read(page).find(spillway::xxh3_hex({spillway::bytes_of(signal)})) != std::string::npos);
}

TEST_CASE("a gate's description leaves the gaps of its signal open") {
  spillway::Signal signal;
  signal.step_s = 300;
  signal.times_unix_s = {0, 300, 600, 6000, 6300};
  signal.values = {1, 2, 3, 4, 5};
  const auto gate = spillway::describe_gate({}, {&signal, nullptr, nullptr, nullptr}, {}, {}, {250, 6301});
  const nlohmann::json expected = {{0, 1.0},    {300, 2.0},  {600, 3.0},     {900, nullptr},
                                   {6000, 4.0}, {6300, 5.0}, {6600, nullptr}};
  CHECK(gate.at("points") == expected);
}

TEST_CASE("bad simulations say what is wrong") {
  const auto error = [](const std::vector<std::string>& arguments, int status) {
    const Outcome outcome = run_spillway(arguments);
    CHECK(outcome.status == status);
    return outcome.output;
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(error({"simulate", "--config", kStudy}, 64),
            "site CAISO_NORTH: signal.file is not set; --signal FILE sets it for all"));
  CHECK(has(error({"simulate", "--config", kStudy, "--simulate.tokens", "0"}, 64),
            "simulate.tokens = 0: must be more than 0"));
  CHECK(has(error(demo({"--simulate.round-loss", "1"}), 64),
            "simulate.round-loss = 1: must be from 0 to below 1"));
  CHECK(has(error(demo({"--clock.start", "2030-01-01T00:00:00Z"}), 64), "have no time in common"));
  CHECK(has(error(demo({"--simulate.outside", "asleep"}), 64),
            "site california: simulate.outside must be off or idle"));
  CHECK(has(error(demo({"--sweep", "weather=1"}), 64), "--sweep weather=1: expected open-below="));
  CHECK(has(error(demo({"--sweep", "min-length=soon"}), 64), "'soon' is not a value of min-length"));
  CHECK(has(error(demo({"--policy", "forecast", "--simulate.forecast", "file"}), 65),
            "no forecasts: no column f1"));
}
