#include "energy/plan.hpp"

#include <random>

#include "energy/policy.hpp"
#include "energy/simulate.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

constexpr double kHour = 3600, kDay = 24 * kHour;

Signal random_signal(std::mt19937& random, int hours) {
  std::uniform_real_distribution<double> level(0, 400);
  Signal signal;
  signal.step_s = kHour;
  for (int hour = 0; hour < hours; ++hour) {
    signal.times_unix_s.push_back(kHour * hour);
    signal.values.push_back(level(random));
  }
  return signal;
}

}  // namespace

TEST_CASE("overlaps say who is open together") {
  const std::vector<std::vector<Window>> windows = {{{0, 4}, {8, 10}}, {{2, 6}}, {{3, 9}}};
  const auto overlaps = find_overlaps(windows);
  using Sites = std::vector<std::size_t>;
  REQUIRE(overlaps.size() == 4);
  CHECK(overlaps[0].start_unix_s == 2);
  CHECK(overlaps[0].sites == Sites{0, 1});
  CHECK(overlaps[1].sites == Sites{0, 1, 2});
  CHECK(overlaps[2].start_unix_s == 4);
  CHECK(overlaps[2].end_unix_s == 6);
  CHECK(overlaps[2].sites == Sites{1, 2});
  CHECK(overlaps[3].sites == Sites{0, 2});
  CHECK(overlaps[3].end_unix_s == 9);
  CHECK(find_overlaps({{{0, 1}}, {{1, 2}}}).empty());
}

TEST_CASE("the covered part of a window") {
  CHECK(covered_part({0, 10}, {{0, 2}, {5, 20}}) == Approx(0.7));
  CHECK(covered_part({0, 10}, {}) == 0);
  CHECK(covered_part({0, 10}, {{10, 20}}) == 0);
}

TEST_CASE("the part of a signal from an instant on says the same as the signal") {
  std::mt19937 random(7);
  Signal signal = random_signal(random, 10);
  signal.times_unix_s.erase(signal.times_unix_s.begin() + 4);  // a hole of an hour is bridged
  signal.values.erase(signal.values.begin() + 4);
  for (const double from : {0.0, 1800.0, 3.5 * kHour, 4.5 * kHour, 9.9 * kHour}) {
    const Signal part = signal_from(signal, from);
    CHECK(part.start_unix_s() == from);
    for (double at = from; at < 11 * kHour; at += 600) {
      INFO("from " << from << " at " << at);
      CHECK(part.value_at(at) == signal.value_at(at));
    }
  }
}

TEST_CASE("a future differs from the forecast as days of the past differed") {
  Signal signal;
  signal.step_s = kHour;
  // Each day 10 more than the day before.
  for (int hour = 0; hour < 24 * 10; ++hour) {
    signal.times_unix_s.push_back(kHour * hour);
    signal.values.push_back(10.0 * (hour / 24) + hour % 24);
  }
  for (std::uint64_t draw = 0; draw < 20; ++draw) {
    const auto future = perturbed(signal, 8 * kDay, 1, draw);
    REQUIRE(future);
    REQUIRE(future->values.size() == 48);
    for (std::size_t i = 0; i < 48; ++i) CHECK(future->values[i] == signal.values[8 * 24 + i] + 10);
  }
  CHECK_FALSE(perturbed(signal, 1.5 * kDay, 1, 0));
}

TEST_CASE("quantiles lie between ranks") {
  const Quantiles q = quantiles({5, 1, 2, 4, 3});
  CHECK(q.p10 == Approx(1.4));
  CHECK(q.p50 == 3);
  CHECK(q.p90 == Approx(4.6));
}

TEST_CASE("random plans without costs are arithmetic: energy and tokens are sums over windows") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Signal> signals;
    for (int i = 0; i < 3; ++i) signals.push_back(random_signal(random, 100));
    std::vector<SiteModel> sites;
    std::vector<std::vector<Window>> windows;
    double open_s = 0;
    for (const Signal& signal : signals) {
      const Policy policy = kPolicies[random() % 2];  // reactive or hysteresis
      windows.push_back(policy_windows(policy, signal, {100, 200, 0}, 0, nullptr, 0));
      SiteModel site;
      site.intensity = &signal;
      site.open = windows.back();
      site.tokens_per_s = 7;
      site.train_power_w = 3000;
      sites.push_back(site);
      for (const Window& window : windows.back()) open_s += window.length_s();
    }
    RunModel run;
    run.end_unix_s = 100 * kHour;
    run.tokens = 1e12;
    const RunOutcome outcome = simulate(sites, windows, run);
    double together_s = 0, pair_s = 0;
    for (const Overlap& overlap : find_overlaps(windows)) {
      const double length_s = overlap.end_unix_s - overlap.start_unix_s;
      together_s += length_s;
      pair_s += length_s * static_cast<double>(overlap.sites.size());
    }
    REQUIRE(outcome.tokens == Approx(7 * open_s));
    REQUIRE(outcome.energy_kwh() == Approx(3 * open_s / kHour));
    REQUIRE(outcome.inside_kwh() == Approx(outcome.energy_kwh()));
    REQUIRE(outcome.federated_s == Approx(together_s));
    REQUIRE(outcome.solo_s == Approx(open_s - pair_s));
    double grams = 0;
    for (std::size_t i = 0; i < 3; ++i)
      for (const Window& window : windows[i])
        for (double at = window.open_unix_s; at < window.close_unix_s; at += kHour)
          grams += 3 * *signals[i].value_at(at);
    REQUIRE(outcome.emissions_g() == Approx(grams));
  }
}
