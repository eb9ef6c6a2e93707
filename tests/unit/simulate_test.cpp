#include "energy/simulate.hpp"

#include <random>

#include "core/error.hpp"
#include "energy/policy.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"

using namespace spillway;

namespace {

constexpr double kHour = 3600;

// One value per hour from instant 0.
Signal hourly(const std::vector<double>& values) {
  Signal signal;
  signal.step_s = kHour;
  signal.values = values;
  for (std::size_t i = 0; i < values.size(); ++i)
    signal.times_unix_s.push_back(kHour * static_cast<double>(i));
  return signal;
}

SiteModel site_on(const Signal& signal) {
  SiteModel site;
  site.intensity = &signal;
  site.tokens_per_s = 10;
  site.train_power_w = 2000;
  site.idle_power_w = 500;
  return site;
}

RunModel run_of(double hours, double tokens) {
  RunModel run;
  run.end_unix_s = hours * kHour;
  run.tokens = tokens;
  return run;
}

}  // namespace

TEST_CASE("without costs a run is arithmetic") {
  const Signal a = hourly({100, 50, 100, 100, 100, 100}), b = hourly({10, 10, 20, 10, 10, 10});
  const std::vector<std::vector<Window>> windows = {{{0, 2 * kHour}},
                                                    {{kHour, 3 * kHour}, {5 * kHour, 6 * kHour}}};
  // Hour 0: one site; 1: two; 2: one; 3, 4: none; 5: one. Four and a half site-hours are all tokens.
  const RunOutcome outcome = simulate({site_on(a), site_on(b)}, windows, run_of(6, 10 * 4.5 * kHour));
  CHECK(outcome.finished);
  CHECK(outcome.runtime_s == Approx(5.5 * kHour));
  CHECK(outcome.energy_kwh() == Approx(2 * 4.5));
  CHECK(outcome.emissions_g() == Approx(2 * (100 + 50 + 10 + 20 + 0.5 * 10)));
  CHECK(outcome.solo_s == Approx(2.5 * kHour));
  CHECK(outcome.federated_s == Approx(kHour));
  CHECK(outcome.paused_s == Approx(2 * kHour));
  CHECK(outcome.starts() == 3);
  CHECK(outcome.sites[0].tokens == Approx(20 * kHour));
  const RunOutcome cut = simulate({site_on(a), site_on(b)}, windows, run_of(6, 1e9));
  CHECK_FALSE(cut.finished);
  CHECK(cut.runtime_s == Approx(6 * kHour));
  CHECK(cut.tokens == Approx(50 * kHour));
}

TEST_CASE("delays, grace, losses and idle nodes cost what they should") {
  const Signal signal = hourly({100, 100, 100, 100});
  SiteModel site = site_on(signal);
  site.start_delay_s = 600;
  site.grace_s = 1200;
  site.open = {{0, kHour}};
  SECTION("startup at idle power, drain at full power without tokens") {
    const RunOutcome outcome = simulate({site}, {{{0, kHour}}}, run_of(4, 1e9));
    CHECK(outcome.tokens == Approx(10 * 3000));
    CHECK(outcome.phase_kwh(Phase::startup) == Approx(0.5 * 600 / kHour));
    CHECK(outcome.phase_kwh(Phase::solo) == Approx(2.0 * 3000 / kHour));
    CHECK(outcome.phase_kwh(Phase::drain) == Approx(2.0 * 1200 / kHour));
    CHECK(outcome.phase_g(Phase::drain) == Approx(200.0 / 3));
    CHECK(outcome.inside_kwh() == Approx(outcome.phase_kwh(Phase::startup) + outcome.phase_kwh(Phase::solo)));
  }
  SECTION("a window that reopens during the grace period needs no new start") {
    const RunOutcome outcome = simulate({site}, {{{0, kHour}, {kHour + 600, 2 * kHour}}}, run_of(4, 1e9));
    CHECK(outcome.starts() == 1);
    CHECK(outcome.tokens == Approx(10 * (3000 + 3000)));
    CHECK(outcome.phase_kwh(Phase::drain) == Approx(2.0 * 1800 / kHour));
  }
  SECTION("a window shorter than the startup trains nothing and needs no grace") {
    const RunOutcome outcome = simulate({site}, {{{0, 300}}}, run_of(4, 1e9));
    CHECK(outcome.tokens == 0);
    CHECK(outcome.energy_kwh() == Approx(0.5 * 300 / kHour));
  }
  SECTION("idle outside windows") {
    site.idle_outside = true;
    const RunOutcome outcome = simulate({site}, {{{kHour, 2 * kHour}}}, run_of(4, 1e9));
    CHECK(outcome.phase_kwh(Phase::idle) == Approx(0.5 * (2 * kHour - 1200 + kHour) / kHour));
  }
  SECTION("rounds of two sites lose time at idle power") {
    site.start_delay_s = site.grace_s = 0;
    RunModel run = run_of(4, 1e9);
    run.round_loss = 0.25;
    const RunOutcome outcome = simulate({site, site}, {{{0, kHour}}, {{0, kHour}}}, run);
    CHECK(outcome.tokens == Approx(2 * 10 * 0.75 * kHour));
    CHECK(outcome.phase_kwh(Phase::federated) == Approx(2 * (2 * 0.75 + 0.5 * 0.25)));
  }
  SECTION("the PUE multiplies all of it") {
    const double plain = simulate({site}, {{{0, kHour}}}, run_of(4, 1e9)).energy_kwh();
    site.pue = 1.5;
    CHECK(simulate({site}, {{{0, kHour}}}, run_of(4, 1e9)).energy_kwh() == Approx(1.5 * plain));
  }
  SECTION("an unknown intensity is not zero") {
    site.intensity = nullptr;
    const RunOutcome outcome = simulate({site}, {{{0, kHour}}}, run_of(4, 1e9));
    CHECK(outcome.unknown_kwh() == Approx(outcome.energy_kwh()));
  }
}

TEST_CASE("random runs: energy is the sum of its parts, and emissions lie between the extremes") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> level(10, 500), part(0, 1);
  for (int round = 0; round < 100; ++round) {
    std::vector<Signal> signals;
    for (int i = 0; i < 3; ++i) {
      std::vector<double> values;
      for (int hour = 0; hour < 100; ++hour) values.push_back(level(random));
      signals.push_back(hourly(values));
    }
    std::vector<SiteModel> sites;
    std::vector<std::vector<Window>> windows;
    for (const Signal& signal : signals) {
      sites.push_back(site_on(signal));
      sites.back().start_delay_s = 1000 * part(random);
      sites.back().grace_s = 9000 * part(random);
      sites.back().idle_outside = random() % 2 == 0;
      windows.push_back(policy_windows(Policy::hysteresis, signal, {100, 200, 0}, 0, nullptr, 0));
      sites.back().open = windows.back();
    }
    RunModel run = run_of(100, 1e6 * part(random));
    run.round_loss = 0.3 * part(random);
    const RunOutcome outcome = simulate(sites, windows, run);
    double parts = 0, grams = 0, tokens = 0;
    for (std::size_t phase = 0; phase < kPhaseNames.size(); ++phase) {
      parts += outcome.phase_kwh(static_cast<Phase>(phase));
      grams += outcome.phase_g(static_cast<Phase>(phase));
    }
    for (const SiteOutcome& site : outcome.sites) tokens += site.tokens;
    REQUIRE(parts == Approx(outcome.energy_kwh()));
    REQUIRE(grams == Approx(outcome.emissions_g()));
    REQUIRE(tokens == Approx(outcome.tokens));
    REQUIRE(outcome.solo_s + outcome.federated_s + outcome.paused_s == Approx(outcome.runtime_s));
    REQUIRE(outcome.emissions_g() <= 500 * outcome.energy_kwh());
    REQUIRE(outcome.emissions_g() >= 10 * outcome.energy_kwh());
    REQUIRE(outcome.finished == (outcome.runtime_s < run.end_unix_s));
    for (const auto& placed : windows) {
      const auto moved = random_windows(placed, run, seed, static_cast<std::uint64_t>(round));
      double before = run.start_unix_s, length = 0, moved_length = 0;
      for (const Window& window : moved) {
        REQUIRE(window.open_unix_s >= before);
        before = window.close_unix_s;
        moved_length += window.length_s();
      }
      REQUIRE(before <= run.end_unix_s + 1e-6);
      for (const Window& window : placed) length += window.length_s();
      REQUIRE(moved_length == Approx(length).margin(1e-6));
    }
  }
}

namespace {

// Knows the signal: what a perfect forecast says.
class PerfectForecast final : public Forecast {
 public:
  explicit PerfectForecast(const Signal& signal) : signal_(signal) {}
  std::optional<double> predicted(double, double at_unix_s) const override {
    return signal_.value_at(at_unix_s);
  }

 private:
  const Signal& signal_;
};

// Knows nothing.
class NoForecast final : public Forecast {
 public:
  std::optional<double> predicted(double, double) const override { return std::nullopt; }
};

}  // namespace

TEST_CASE("policies differ in what they know") {
  const Signal signal = hourly({1, 9, 1, 6, 1, 1, 9, 1, 9, 1, 1, 1});
  const GateThresholds thresholds{5, 7, 0};
  const auto hours = [&](Policy policy, const Forecast* forecast) {
    std::vector<std::pair<double, double>> result;
    for (const Window& window : policy_windows(policy, signal, thresholds, 2 * kHour, forecast, 1))
      result.emplace_back(window.open_unix_s / kHour, window.close_unix_s / kHour);
    return result;
  };
  using Hours = std::vector<std::pair<double, double>>;
  CHECK(hours(Policy::reactive, nullptr) == Hours{{0, 1}, {2, 3}, {4, 6}, {7, 8}, {9, 12}});
  CHECK(hours(Policy::hysteresis, nullptr) == Hours{{0, 1}, {2, 6}, {7, 8}, {9, 12}});
  CHECK(hours(Policy::foresight, nullptr) == Hours{{2, 6}, {9, 12}});
  CHECK(hours(Policy::oracle, nullptr) == hours(Policy::hysteresis, nullptr));
  const PerfectForecast perfect(signal);
  CHECK(hours(Policy::forecast, &perfect) == hours(Policy::foresight, nullptr));
  const NoForecast none;
  CHECK(hours(Policy::forecast, &none).empty());
  for (const Policy policy : kPolicies) CHECK(parse_policy(policy_name(policy)) == policy);
  CHECK_THROWS_WITH(
      parse_policy("psychic"),
      "simulate.policy = 'psychic': must be reactive, hysteresis, forecast, foresight or oracle");
}

TEST_CASE("forecasts say what was known then") {
  const Signal signal = hourly(std::vector<double>(60, 1));
  Signal day = signal;
  day.values[3] = 7;
  const YesterdayForecast yesterday(day);
  CHECK(yesterday.predicted(26 * kHour, 27 * kHour) == 7);
  CHECK(yesterday.predicted(26 * kHour, 28 * kHour) == 1);
  CHECK_FALSE(yesterday.predicted(2 * kHour, 27 * kHour));  // not yet measured
  const auto path = real_trace("SGIP_CAISO_PGE_2021-04.csv.gz");
  if (!path) return;
  SignalConfig config;
  config.file = path->string();
  const IssuedForecast issued(config);
  CHECK(issued.horizon_steps() == 36);
  const double start = 1617148800;  // 2021-03-31T00:00:00Z, the first row: f1 and f2
  CHECK(issued.predicted(start, start + 300).value() == Approx(0.246498797701884));
  CHECK(issued.predicted(start + 299, start + 700).value() == Approx(4.349512531347521));
  CHECK_FALSE(issued.predicted(start, start + 37 * 300));
  CHECK_FALSE(issued.predicted(start - 1, start + 300));
}
