#include "optim/schedule.hpp"

#include <string>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

TEST_CASE("the study's schedule over 23,400 steps") {
  const Schedule schedule(OptimConfig{}, 23400, 20);
  // 0.4·23,400 = 9,360 steps of cooldown: from step 14,040 on.
  CHECK(schedule.learning_rate_factor(0) == 1);
  CHECK(schedule.learning_rate_factor(14040) == 1);
  CHECK(schedule.learning_rate_factor(14041) == Approx(9359.0 / 9360));
  CHECK(schedule.learning_rate_factor(18720) == Approx(0.5));
  CHECK(schedule.learning_rate_factor(23399) == Approx(1.0 / 9360));
  CHECK(schedule.learning_rate_factor(23400) == 0);

  CHECK(schedule.muon_momentum(0) == Approx(0.85));
  CHECK(schedule.muon_momentum(150) == Approx(0.90));
  CHECK(schedule.muon_momentum(300) == 0.95);
  CHECK(schedule.muon_momentum(23400) == 0.95);

  CHECK(schedule.weight_decay(0) == Approx(0.2 * 0.36));
  CHECK(schedule.weight_decay(11700) == Approx(0.1 * 0.36));
  CHECK(schedule.weight_decay(23400) == 0);
}

TEST_CASE("beyond the end nothing becomes negative") {
  const Schedule schedule(OptimConfig{}, 100, 12);
  for (const std::int64_t it : {100, 101, 1000, 1000000}) {
    CHECK(schedule.learning_rate_factor(it) == 0);
    CHECK(schedule.weight_decay(it) == 0);
  }
}

TEST_CASE("without cooldown and warm-up the values are constant") {
  OptimConfig config;
  config.cooldown = 0;
  config.momentum_warmup = 0;
  const Schedule schedule(config, 10, 12);
  for (std::int64_t it = 0; it < 10; ++it) {
    CHECK(schedule.learning_rate_factor(it) == 1);
    CHECK(schedule.muon_momentum(it) == 0.95);
  }
  CHECK(schedule.learning_rate_factor(10) == 0);
}

TEST_CASE("Muon's momentum rises to what the configuration says, and never falls") {
  OptimConfig config;
  config.muon_momentum = 0.997;
  const Schedule longer(config, 1000, 12);
  CHECK(longer.muon_momentum(0) == Approx(0.85));
  CHECK(longer.muon_momentum(150) == Approx((0.85 + 0.997) / 2));
  CHECK(longer.muon_momentum(300) == 0.997);
  config.muon_momentum = 0.5;
  const Schedule shorter(config, 1000, 12);
  for (const std::int64_t it : {0, 150, 300, 999}) CHECK(shorter.muon_momentum(it) == Approx(0.5));
}

TEST_CASE("impossible schedules are refused by the name of their key") {
  const auto refusal = [](const OptimConfig& config, std::int64_t steps) -> std::string {
    try {
      Schedule(config, steps, 12);
    } catch (const Error& error) {
      REQUIRE(error.code() == ExitCode::usage);
      return error.what();
    }
    return "accepted";
  };
  CHECK(refusal(OptimConfig{}, 0) == "train.steps = 0: must be at least 1");
  OptimConfig config;
  config.cooldown = 1.5;
  CHECK(refusal(config, 10) == "optim.cooldown = 1.5: must be between 0 and 1");
  config = {};
  config.momentum_warmup = -1;
  CHECK(refusal(config, 10) == "optim.momentum_warmup = -1: must not be negative");
}
