#include "energy/gate.hpp"

#include <random>

#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/signal.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"

using namespace spillway;

namespace {

// Samples one minute apart from instant 0.
Signal minutes(const std::vector<double>& values) {
  Signal signal;
  signal.step_s = 60;
  signal.values = values;
  for (std::size_t i = 0; i < values.size(); ++i)
    signal.times_unix_s.push_back(60.0 * static_cast<double>(i));
  return signal;
}

Signal read_region(const std::filesystem::path& file, const std::string& region) {
  SignalConfig config;
  config.file = file.string();
  config.region = region;
  return read_signal(config);
}

using Minutes = std::vector<std::pair<double, double>>;  // (opens, length)
Minutes in_minutes(const std::vector<Window>& windows, double from_unix_s = 0) {
  Minutes result;
  for (const Window& window : windows)
    result.emplace_back((window.open_unix_s - from_unix_s) / 60, window.length_s() / 60);
  return result;
}

GateConfig below(double open_below) {
  GateConfig config;
  config.open_below = open_below;
  return config;
}

}  // namespace

TEST_CASE("windows open below one threshold and close at the other") {
  const Signal signal = minutes({150, 90, 110, 119, 120, 110, 90, 50, 200});
  CHECK(in_minutes(find_windows(signal, {100, 100, 0}, 0)) == Minutes{{1, 1}, {6, 2}});
  CHECK(in_minutes(find_windows(signal, {100, 120, 0}, 0)) == Minutes{{1, 3}, {6, 2}});
  CHECK(find_windows(signal, {50, 120, 0}, 0).empty());  // below means below
  CHECK(in_minutes(find_windows(signal, {1000, 1000, 0}, 0)) == Minutes{{0, 9}});
}

TEST_CASE("short windows are left out before the grace period is added") {
  const Signal signal = minutes({9, 1, 9, 9, 1, 1, 9, 9, 9, 1, 1});
  CHECK(in_minutes(find_windows(signal, {5, 5, 60}, 120)) ==
        Minutes{{4, 3}, {9, 2}});  // cut at the signal's end
  CHECK(in_minutes(find_windows(signal, {5, 5, 120}, 0)) == Minutes{{1, 7}, {9, 2}});  // grace joins two
  CHECK(in_minutes(find_windows(signal, {5, 5, 180}, 0)) == Minutes{{1, 10}});
}

TEST_CASE("a gap closes the window when the sample before it ends") {
  Signal signal = minutes({1, 1, 1, 1});
  signal.times_unix_s = {0, 60, 300, 360};
  CHECK(in_minutes(find_windows(signal, {5, 5, 0}, 0)) == Minutes{{0, 2}, {5, 2}});
}

TEST_CASE("the gate drains for the grace period and then idles") {
  Gate gate({100, 120, 60});
  CHECK(gate.update(0, 110) == GateState::idle);
  CHECK(gate.update(10, 99) == GateState::train);
  CHECK(gate.update(20, 119) == GateState::train);
  CHECK(gate.update(30, 120) == GateState::drain);
  CHECK(gate.update(89, 110) == GateState::drain);  // between the thresholds does not reopen
  CHECK(gate.update(90, 110) == GateState::idle);
  CHECK(gate.update(100, 50) == GateState::train);
  CHECK(gate.update(110, std::nullopt) == GateState::drain);  // unknown is closed
  CHECK(gate.update(120, 50) == GateState::train);
}

TEST_CASE("thresholds are absolute or a percentile") {
  const Signal signal = minutes({0, 10, 20, 30, 40});
  GateConfig config = below(25);
  CHECK(make_thresholds(config, signal).close_above == 25);
  config.close_above = 24;
  CHECK_THROWS_WITH(make_thresholds(config, signal),
                    "gate.close-above = 24 is below gate.open-below = 25: the gate would flicker");
  config = {};
  config.percentile = 50;
  CHECK(make_thresholds(config, signal).open_below == 20);
  config.open_below = 1;
  CHECK_THROWS_WITH(make_thresholds(config, signal),
                    "gate: give one of gate.open-below, gate.open-above (in g/kWh) and gate.percentile");
}

TEST_CASE("windows of random signals are disjoint, ordered, inside the span, and what the live gate does") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> level(0, 100), hop(1, 5);
  for (int round = 0; round < 200; ++round) {
    Signal signal;
    signal.step_s = 60;
    double now = 1000;
    for (int i = 0; i < 80; ++i) {
      signal.times_unix_s.push_back(now);
      signal.values.push_back(level(random));
      now += 60 * std::floor(hop(random) * (random() % 4 == 0 ? 1 : 0.4) + 0.6);
    }
    const double grace_s = 30.0 * static_cast<double>(random() % 8);
    const GateThresholds thresholds{40, 40 + level(random) / 2, grace_s};
    const std::vector<Window> windows = find_windows(signal, thresholds, 0);
    double before = signal.start_unix_s() - 1;
    for (const Window& window : windows) {
      REQUIRE(window.open_unix_s > before);
      REQUIRE(window.close_unix_s > window.open_unix_s);
      before = window.close_unix_s;
    }
    REQUIRE(before <= signal.end_unix_s());
    Gate gate(thresholds);
    for (double at = signal.start_unix_s(); at < signal.end_unix_s(); at += 30) {
      const bool live = gate.update(at, signal.value_at(at)) != GateState::idle;
      const Window* window = window_at_or_after(windows, at);
      REQUIRE(live == (window != nullptr && at >= window->open_unix_s));
    }
    for (const Window& window : find_windows(signal, {thresholds.open_below, thresholds.close_above, 0}, 300))
      REQUIRE(window.length_s() >= 300);
  }
}

TEST_CASE(
    "hysteresis never opens twice: between two openings the signal closed, and every opening had its cause") {
  const auto seed = GENERATE(1u, 2u, 3u, 4u, 5u);
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    const double open = 10.0 * (random() % 10), close = open + 10.0 * (random() % 5);
    const bool above = random() % 2 == 0;
    GateThresholds thresholds{above ? close : open, above ? open : close, 60.0 * (random() % 4), above};
    Gate gate(thresholds);
    bool was_open = false;
    for (int minute = 0; minute < 300; ++minute) {
      std::optional<double> value;
      if (random() % 10 != 0) value = 10.0 * (random() % 12);
      const GateState state = gate.update(60.0 * minute, value);
      const bool opened = state == GateState::train && !was_open;
      // It opens on an opening value alone, never on one in between or an unknown one …
      if (opened) REQUIRE((value && thresholds.opens(*value)));
      // … and what is open goes to closed only by a value that does not let it stay.
      if (was_open && state != GateState::train) REQUIRE_FALSE((value && thresholds.stays(*value)));
      was_open = state == GateState::train;
    }
    // The windows of the same gate over a known signal are apart: no opening inside or at the end of another.
    std::vector<double> values(300);
    for (double& value : values) value = 10.0 * (random() % 12);
    const auto windows = find_windows(minutes(values), thresholds, 0);
    for (std::size_t i = 1; i < windows.size(); ++i)
      REQUIRE(windows[i].open_unix_s > windows[i - 1].close_unix_s);
  }
}

TEST_CASE("the study's trace has the published windows") {
  const auto path = real_trace("study_mci_2026-01-11.csv");
  if (!path) return;
  const std::vector<std::pair<std::string, Minutes>> published = {
      {"CAISO_NORTH", {{5, 120}, {140, 245}}},
      {"SPP_TX", {{605, 10}, {620, 365}, {990, 35}}},
      {"NEM_SA", {{280, 630}}},
      {"DE", {}}};
  for (const auto& [region, expected] : published) {
    INFO(region);
    const Signal signal = read_region(*path, region);
    const auto windows = find_windows(signal, make_thresholds(below(100), signal), 0);
    CHECK(in_minutes(windows, *parse_utc("2026-01-11T17:00:00Z")) == expected);
  }
}

TEST_CASE("the demo's day has the promised shape") {
  const std::filesystem::path path = SPILLWAY_SOURCE_DIR "/traces/demo_day.csv";
  const std::vector<std::pair<std::string, Minutes>> promised = {
      {"california", {{40, 210}}}, {"texas", {{140, 200}, {730, 170}}}, {"south_australia", {{560, 270}}}};
  for (const auto& [region, expected] : promised) {
    INFO(region);
    const Signal signal = read_region(path, region);
    CHECK(signal.values.size() == 216);
    CHECK(in_minutes(find_windows(signal, {100, 100, 0}, 0), signal.start_unix_s()) == expected);
  }
}
