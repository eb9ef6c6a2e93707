// Pauses in a time of the test's own.
#include "train/pacer.hpp"

#include <random>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

// Time that passes only where the test says so; naps take longer than asked, as on a busy machine.
struct FakeTime {
  double now_s = 1000, slept_s = 0, late_s = 0;
  Pacer::Time time() {
    return {[this] { return now_s; },
            [this](double seconds) {
              now_s += seconds + late_s;
              slept_s += seconds + late_s;
            }};
  }
};

}  // namespace

TEST_CASE("pauses pay for all work, that between steps too, however late they end") {
  const unsigned seed = 11;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> piece_s(0.001, 0.3);
  FakeTime fake;
  double watched_s = 0, began_s = 0;
  Pacer pacer(
      [&](bool pausing) {
        if (pausing) began_s = fake.now_s;
        if (!pausing) watched_s += fake.now_s - began_s;
      },
      fake.time());
  const double ratio = GENERATE(0.25, 1.0, 3.0);
  fake.late_s = GENERATE(0.0, 0.004);
  pacer.set_ratio(ratio);
  double worked_s = 0, gap_s = 0;
  const auto pass = [&] {
    const double seconds = piece_s(random);
    fake.now_s += seconds;
    worked_s += seconds;
    return seconds;
  };
  for (int step = 0; step < 200; ++step) {
    pacer.add_work(gap_s);
    pacer.begin_work();
    for (int piece = 0; piece < 3; ++piece) {
      pass();
      pacer.pause();
    }
    pass();
    pacer.end_work();
    gap_s = pass();
  }
  CHECK(fake.slept_s / worked_s == Approx(ratio).epsilon(0.01));
  CHECK(watched_s == Approx(fake.slept_s));
}

TEST_CASE("without a ratio there are no pauses, and what was worked then is not paid for later") {
  FakeTime fake;
  Pacer pacer({}, fake.time());
  pacer.begin_work();
  fake.now_s += 10;
  pacer.pause();
  fake.now_s += 10;
  pacer.end_work();
  CHECK(fake.slept_s == 0);
  pacer.set_ratio(1);
  pacer.begin_work();
  fake.now_s += 2;
  pacer.pause();
  CHECK(fake.slept_s == Approx(2));
}
