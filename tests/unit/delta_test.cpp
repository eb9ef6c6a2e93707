// Statistics of deltas against direct computation in double, and the hub's decision about them.
#include "optim/delta.hpp"

#include <omp.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/catch.hpp"
#include "train/delta_watch.hpp"

using namespace spillway;

namespace {

std::vector<float> random_vector(std::mt19937& random, std::size_t size) {
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

double norm_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  return std::sqrt(sum);
}

double cosine_of(std::span<const float> a, std::span<const float> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                            [](float x, float y) { return double{x} * y; }) /
         (norm_of(a) * norm_of(b));
}

DeltaReport report_of(double norm) { return {true, norm, {}, {}}; }

}  // namespace

TEST_CASE("norms of a delta, whole and per tensor") {
  std::mt19937 random(7);
  const auto delta = random_vector(random, 1000);
  const DeltaStatistics measured = measure_delta(delta, std::vector<std::int64_t>{1, 400, 1000});
  CHECK(measured.finite);
  CHECK(measured.norm == Approx(norm_of(delta)));
  REQUIRE(measured.tensor_norms.size() == 3);
  CHECK(measured.tensor_norms[0] == Approx(std::abs(delta[0])));
  CHECK(measured.tensor_norms[1] == Approx(norm_of(std::span(delta).subspan(1, 399))));
  CHECK(measured.tensor_norms[2] == Approx(norm_of(std::span(delta).subspan(400))));
  CHECK(measure_delta(delta, {}).norm == Approx(measured.norm));
}

TEST_CASE("statistics of a long delta do not depend on the number of threads") {
  std::mt19937 random(9);
  const auto delta = random_vector(random, 3'000'001);
  const std::vector<std::int64_t> ends = {5, 1'500'000, 2'999'999};
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const DeltaStatistics one = measure_delta(delta, ends);
  omp_set_num_threads(3);
  const DeltaStatistics three = measure_delta(delta, ends);
  omp_set_num_threads(threads);
  CHECK(one.norm == Approx(norm_of(delta)));
  CHECK(one.tensor_norms[1] == Approx(norm_of(std::span(delta).subspan(5, 1'499'995))));
  CHECK(three.norm == one.norm);
  CHECK(three.tensor_norms == one.tensor_norms);
  CHECK(three.sketch == one.sketch);
}

TEST_CASE("a delta with one element that is not finite has no norm") {
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity());
  const auto at = static_cast<std::size_t>(GENERATE(0, 63, 64, 998));
  std::mt19937 random(8);
  auto delta = random_vector(random, 999);
  delta[at] = bad;
  const DeltaStatistics measured = measure_delta(delta, std::vector<std::int64_t>{500, 999});
  CHECK_FALSE(measured.finite);
  CHECK(measured.norm == 0);
  CHECK(measured.sketch.empty());
}

TEST_CASE("the largest floats have a finite norm") {
  const std::vector<float> delta(100, std::numeric_limits<float>::max());
  const DeltaStatistics measured = measure_delta(delta, {});
  CHECK(measured.finite);
  CHECK(measured.norm == Approx(10.0 * std::numeric_limits<float>::max()));
}

TEST_CASE("cosines from sketches are those of the vectors") {
  const double mixed = GENERATE(-1.0, -0.5, 0.0, 0.3, 0.9, 1.0);
  INFO("part in common " << mixed);
  std::mt19937 random(9);
  const auto a = random_vector(random, 200'001), noise = random_vector(random, a.size());
  std::vector<float> b(a.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    b[i] = static_cast<float>(mixed * a[i] + std::sqrt(1 - mixed * mixed) * noise[i]);
  const double estimate = sketch_cosine(measure_delta(a, {}).sketch, measure_delta(b, {}).sketch);
  constexpr double four_deviations = 4.0 / 32;
  CHECK(std::abs(estimate - cosine_of(a, b)) < four_deviations);
  if (std::abs(mixed) == 1.0) CHECK(estimate == Approx(mixed));
  CHECK(sketch_cosine(std::vector<double>(3), std::vector<double>(3)) == 0);
}

TEST_CASE("the hub refuses what is not finite or far beyond the median") {
  std::deque<double> merged = {1.0, 1.1, 0.9, 1.0};
  CHECK(*delta_fault({false, 0, {}, {}}, 4, {}, 0) == "it has values that are not finite");
  CHECK_FALSE(delta_fault(report_of(1e9), 1, merged, 10));  // four norms are no median
  merged.push_back(50);                                     // one outlier does not move it
  CHECK_FALSE(delta_fault(report_of(20), 4, merged, 10));   // 10 per √block: the limit itself
  CHECK(*delta_fault(report_of(21), 4, merged, 10) ==
        "its norm is 10.5 times the running median, the limit is 10 (federation.delta-limit)");
  CHECK_FALSE(delta_fault(report_of(21), 4, merged, 0));
  CHECK_FALSE(delta_fault(report_of(0), 0, merged, 10));
}

TEST_CASE("a round's deltas in words and numbers") {
  std::mt19937 random(10);
  const auto a = random_vector(random, 5000);
  const DeltaStatistics measured = measure_delta(a, std::vector<std::int64_t>{5000});
  Ready ready;
  ready.tokens = 64;
  ready.delta = {true, 2.5, {2.5}, measured.sketch};
  const DeltaSummary summary = summarize_deltas({{"iowa", ready}, {"texas", ready}, {"vault", {}}});
  CHECK(summary.text == "delta norms iowa 2.5, texas 2.5; cosines iowa·texas 1.00");
  CHECK(summary.sites.size() == 2);
  CHECK(summary.cosines.at("iowa·texas").get<double>() == Approx(1));
}
