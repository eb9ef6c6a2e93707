#include "energy/site_windows.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"

using namespace spillway;

namespace {

constexpr double kHour = 3600;

Signal hourly(const std::vector<double>& values, const std::string& unit = "g/kWh") {
  Signal signal;
  signal.unit = unit;
  signal.step_s = kHour;
  signal.values = values;
  for (std::size_t i = 0; i < values.size(); ++i)
    signal.times_unix_s.push_back(kHour * static_cast<double>(i));
  return signal;
}

using Hours = std::vector<std::vector<double>>;

Hours hours(const std::vector<Window>& windows) {
  Hours result;
  for (const Window& window : windows)
    result.push_back({window.open_unix_s / kHour, window.close_unix_s / kHour, window.part});
  return result;
}

}  // namespace

TEST_CASE("a gate that opens above") {
  GateConfig config;
  config.open_above = 100;
  config.close_below = 50;
  const Signal signal = hourly({0, 120, 60, 50, 100, 101, 0}, "MW");
  const GateThresholds thresholds = make_thresholds(config, signal);
  CHECK(hours(find_windows(signal, thresholds, 0)) == Hours{{1, 3, 1}, {5, 6, 1}});
  config.close_below = 200;
  CHECK_THROWS_WITH(make_thresholds(config, signal),
                    "gate.close-below = 200 is above gate.open-above = 100: the gate would flicker");
  config.open_below = 1;
  CHECK_THROWS_WITH(make_thresholds(config, signal),
                    "gate: give one of gate.open-below, gate.open-above (in MW) and gate.percentile");
}

TEST_CASE("windows need the average intensity, too") {
  SiteSignals signals;
  signals.gate = hourly({10, 10, 10, 10, 10, 10});
  signals.thresholds = {50, 50, 0};
  signals.average = hourly({300, 300, 500, 300, 300});
  CHECK(hours(site_windows(signals, 0)) == Hours{{0, 6, 1}});
  signals.average_below = 400;
  CHECK(hours(site_windows(signals, 0)) == Hours{{0, 2, 1}, {3, 5, 1}});
  CHECK(hours(site_windows(signals, 2.5 * kHour)).empty());
  signals.thresholds.grace_s = kHour;
  CHECK(hours(site_windows(signals, 0)) == Hours{{0, 6, 1}});
}

TEST_CASE("excess power limits the nodes") {
  SiteSignals signals;
  signals.gate = hourly({10, 10, 10, 10, 10, 10, 10});
  signals.thresholds = {50, 50, 0};
  signals.excess = hourly({0.001, 0.012, 0.006, 0.1, 0, 0.002, 0.0019}, "MW");
  signals.nodes = 4;
  signals.node_power_w = 2000;
  CHECK(nodes_within(signals, 0.0059) == 2);
  CHECK(nodes_within(signals, 0.006) == 3);
  CHECK(nodes_within(signals, 9) == 4);
  CHECK(nodes_within(signals, -1) == 0);
  CHECK(hours(site_windows(signals, 0)) == Hours{{1, 4, 0.75}, {5, 6, 0.25}});
  signals.min_nodes = 4;
  CHECK(hours(site_windows(signals, 0)) == Hours{{1, 2, 1}, {3, 4, 1}});
}

TEST_CASE("random windows intersect as sets do") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto draw = [&] {
    std::vector<Window> windows;
    for (int at = 0; at < 60;) {
      const int open = at + static_cast<int>(random() % 5), close = open + 1 + static_cast<int>(random() % 5);
      windows.push_back({static_cast<double>(open), static_cast<double>(close)});
      at = close + 1;
    }
    return windows;
  };
  const auto holds = [](const std::vector<Window>& windows, double at) {
    const Window* window = window_at_or_after(windows, at);
    return window != nullptr && window->open_unix_s <= at;
  };
  for (int round = 0; round < 200; ++round) {
    const auto a = draw(), b = draw();
    const auto both = intersection(a, b);
    for (double at = 0.5; at < 75; ++at) REQUIRE(holds(both, at) == (holds(a, at) && holds(b, at)));
    double end = -1;
    for (const Window& window : both) {
      REQUIRE(window.open_unix_s >= end);
      REQUIRE(window.length_s() > 0);
      end = window.close_unix_s;
    }
    const auto longer = with_grace(a, 2, 70);
    for (double at = 0.5; at < 69; ++at)
      REQUIRE(holds(longer, at) == (holds(a, at) || holds(a, at - 1) || holds(a, at - 2)));
  }
}

TEST_CASE("the command line shows average and excess at work") {
  const TemporaryFolder folder;
  const auto file = [&](const char* name, const char* header, const std::vector<double>& values) {
    const auto path = folder.path() / name;
    std::ofstream out(path);
    out << "point_time," << header << "\n";
    for (std::size_t i = 0; i < values.size(); ++i)
      out << "2026-01-01T0" << i << ":00:00Z," << values[i] << "\n";
    return path.string();
  };
  const std::vector<std::string> common = {
      "--signal.file",      file("marginal.csv", "here", {10, 10, 10, 400, 10, 10}),
      "--gate.open-below",  "100",
      "--average.file",     file("average.csv", "here", {300, 300, 300, 300, 300, 300}),
      "--excess.file",      file("excess.csv", "curtailed (kW)", {0, 4, 4, 4, 2, 2}),
      "--site.nodes",       "2",
      "--site.train-power", "4000"};
  std::vector<std::string> arguments = {"windows", "--format", "json"};
  arguments.insert(arguments.end(), common.begin(), common.end());
  const Outcome windows = run_spillway(arguments);
  INFO(windows.output);
  REQUIRE(windows.status == 0);
  const auto list = nlohmann::json::parse(windows.output).at("windows");
  REQUIRE(list.size() == 2);
  CHECK(list[0].at("start") == "2026-01-01T01:00:00Z");
  CHECK(list[0].at("part") == 1);
  CHECK(list[1].at("minutes") == 120);
  CHECK(list[1].at("part") == 0.5);
  arguments = {"simulate", "--format", "json", "--tokens", "1e12", "--simulate.tokens-per-s", "1000"};
  arguments.insert(arguments.end(), common.begin(), common.end());
  const auto run = nlohmann::json::parse(run_spillway(arguments).output);
  CHECK(run.at("tokens").get<double>() == Approx(1000 * 3600 * (2 + 0.5 * 2)));
  CHECK(run.at("energy_kwh").get<double>() == Approx(4 * (2 + 0.5 * 2)));
  CHECK(run.at("emissions_kg").get<double>() == Approx(0.12));
  CHECK(run.at("average_emissions_kg").get<double>() == Approx(3.6));
  arguments = {"windows", "--excess.unit", "EUR/MWh"};
  arguments.insert(arguments.end(), common.begin(), common.end());
  CHECK(run_spillway(arguments).output.find("excess.file is in EUR/MWh, not in MW or kW") !=
        std::string::npos);
}

TEST_CASE("plans from a forecast file and from yesterday") {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, int from_hour, int to_hour, auto value) {
    const auto path = folder.path() / name;
    std::ofstream out(path);
    out << "point_time,here\n";
    for (int hour = from_hour; hour < to_hour; ++hour)
      out << "2026-01-0" << 1 + hour / 24 << "T" << (hour % 24 < 10 ? "0" : "") << hour % 24 << ":00:00Z,"
          << value(hour) << "\n";
    return path.string();
  };
  const std::string history =
      write("history.csv", 0, 72, [](int hour) { return hour % 24 == 5 || hour % 24 == 6 ? 10 : 300; });
  const std::string forecast =
      write("forecast.csv", 72, 96, [](int hour) { return hour % 24 >= 9 && hour % 24 < 12 ? 10 : 300; });
  const auto plan = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"plan", "--signal",           history, "--gate.open-below",
                                          "100",  "--tokens",           "1e9",   "--simulate.tokens-per-s",
                                          "1e3",  "--site.train-power", "1000",  "--format",
                                          "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_spillway(arguments);
    INFO(outcome.output);
    REQUIRE(outcome.status == 0);
    return nlohmann::json::parse(outcome.output);
  };
  const auto from_file = plan({"--forecast.file", forecast});
  CHECK(from_file.at("start") == "2026-01-04T00:00:00Z");
  REQUIRE(from_file.at("sites")[0].at("windows").size() == 1);
  CHECK(from_file.at("sites")[0].at("windows")[0].at("start") == "2026-01-04T09:00:00Z");
  CHECK(from_file.at("uncertainty").is_object());
  const auto repeated = plan({"--from", "2026-01-04T00:00:00Z", "--horizon", "48h"});
  const auto& windows = repeated.at("sites")[0].at("windows");
  CHECK(repeated.at("forecast_end") == "2026-01-06T00:00:00Z");
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].at("start") == "2026-01-04T05:00:00Z");
  CHECK(windows[1].at("end") == "2026-01-05T07:00:00Z");
}
