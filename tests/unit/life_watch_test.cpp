#include "comm/life_watch.hpp"

#include "tests/catch.hpp"

using namespace spillway;

TEST_CASE("who changes its number in time is alive, however seldom it is looked at") {
  const double between_s = GENERATE(0.05, 0.2, 1.0, 100.0);
  LifeWatch watch(5);
  double now_s = 50;
  for (std::uint64_t beat = 0; beat < 1000; ++beat, now_s += between_s) {
    watch.look(now_s, beat / 2);
    REQUIRE_FALSE(watch.silent());
  }
}

TEST_CASE("who does not is silent after the time, and alive again with its next beat") {
  LifeWatch watch(5);
  double now_s = 50;
  for (; now_s < 54.9; now_s += 0.05) watch.look(now_s, 7);
  CHECK_FALSE(watch.silent());
  for (; now_s < 55.2; now_s += 0.05) watch.look(now_s, 7);
  CHECK(watch.silent());
  watch.look(now_s, 8);
  CHECK_FALSE(watch.silent());
}

TEST_CASE("time in which the judge itself did not look accuses nobody") {
  LifeWatch watch(5);
  watch.look(50, 7);
  watch.look(3650, 7);  // the machine stood still: both have just woken up
  CHECK_FALSE(watch.silent());
  for (double now_s = 3650; now_s < 3654; now_s += 0.05) watch.look(now_s, 7);
  CHECK_FALSE(watch.silent());
  for (double now_s = 3654; now_s < 3656; now_s += 0.05) watch.look(now_s, 7);
  CHECK(watch.silent());
}
