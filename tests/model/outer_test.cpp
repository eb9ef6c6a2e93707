#include "optim/outer.hpp"

#include <random>
#include <vector>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

}  // namespace

TEST_CASE("two outer steps by hand") {
  const OuterSettings settings{0.5f, 0.25f};
  std::vector<float> params = {8.0f}, velocity = {0.0f};
  outer_step(params, velocity, params, std::vector<float>{4.0f}, settings);
  CHECK(velocity[0] == 4.0f);
  CHECK(params[0] == 8.0f - 0.5f * (0.25f * 4.0f + 4.0f));  // 5.5
  outer_step(params, velocity, params, std::vector<float>{2.0f}, settings);
  CHECK(velocity[0] == 3.0f);  // 0.25·4 + 2
  CHECK(params[0] == 5.5f - 0.5f * (0.25f * 3.0f + 2.0f));
}

TEST_CASE("the step rounds after every operation, whatever the machine can fuse") {
  const unsigned seed = 5;
  INFO("seed " << seed);
  const std::size_t n = 1001;
  const std::vector<float> base = random_values(n, seed), delta = random_values(n, seed + 1);
  std::vector<float> velocity = random_values(n, seed + 2), next(n);
  const std::vector<float> before = velocity;
  outer_step(next, velocity, base, delta, {0.9f, 0.6f});
  for (std::size_t i = 0; i < n; ++i) {
    volatile float product = 0.6f * before[i];
    volatile float new_velocity = product + delta[i];
    product = 0.6f * new_velocity;
    volatile float direction = product + delta[i];
    product = 0.9f * direction;
    volatile float expected = base[i] - product;
    REQUIRE(velocity[i] == new_velocity);
    REQUIRE(next[i] == expected);
  }
}

TEST_CASE("segments and aliasing do not change the result") {
  const std::size_t n = 777, cut = 130;
  const std::vector<float> base = random_values(n, 1), delta = random_values(n, 2),
                           start = random_values(n, 3);
  std::vector<float> velocity = start, next(n);
  outer_step(next, velocity, base, delta, {});

  std::vector<float> segment_velocity = start, in_place = delta;
  for (const auto& [begin, count] : {std::pair{std::size_t{0}, cut}, std::pair{cut, n - cut}}) {
    const auto part = std::span(in_place).subspan(begin, count);
    outer_step(part, std::span(segment_velocity).subspan(begin, count), std::span(base).subspan(begin, count),
               part, {});
  }
  CHECK(in_place == next);
  CHECK(segment_velocity == velocity);
}

TEST_CASE("the plain average of equal weights is the mean of the sites, without momentum") {
  const std::vector<float> base = {1.0f, 2.0f, -4.0f}, one = {1.5f, 2.0f, -2.0f}, two = {0.5f, 4.0f, -3.0f};
  std::vector<float> first(3), second(3), mean(3), next(3), velocity = {9.0f, 9.0f, 9.0f};
  outer_delta(first, base, one);
  outer_delta(second, base, two);
  for (std::size_t i = 0; i < 3; ++i) mean[i] = 0.5f * (first[i] + second[i]);
  outer_average(next, velocity, base, mean);
  CHECK(next == std::vector<float>{1.0f, 3.0f, -2.5f});
  CHECK(velocity == std::vector<float>{0.0f, 0.0f, 0.0f});
}
