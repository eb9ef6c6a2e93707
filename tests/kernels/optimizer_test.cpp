// AdamW, Muon, casts.
#include "tests/kernels/reference_muon.hpp"
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("AdamW") {
  const int n = GENERATE(1, 20, 1024, 4099);
  const int offset = GENERATE(0, 1);  // an unaligned start
  const bool with_copy = GENERATE(true, false);
  INFO("n " << n << " offset " << offset);
  const AdamwStep step = {0.01f, 0.8f, 0.95f, 1e-10f, 0.2f, 0.05f};
  Vector squares = random(3, n + offset, 0.1);
  for (double& value : squares) value *= value;
  DeviceArray<float> p(random(1, n + offset)), m(random(2, n + offset, 0.1)), v(squares);
  DeviceArray<float> g(random(4, n + offset)), gate(Vector{1.0});
  DeviceArray<act> copy(n + offset);
  Vector expected = p.values(), expected_m = m.values(), expected_v = v.values();
  const Vector gradient = g.values();
  for (std::size_t i = static_cast<std::size_t>(offset); i < expected.size(); ++i) {
    expected_m[i] = 0.8 * expected_m[i] + 0.2 * gradient[i];
    expected_v[i] = 0.95 * expected_v[i] + 0.05 * gradient[i] * gradient[i];
    expected[i] -= 0.01 * (expected_m[i] / 0.2) / (std::sqrt(expected_v[i] / 0.05) + 1e-10);
  }
  adamw_update(device(), p.data() + offset, with_copy ? copy.data() + offset : nullptr, m.data() + offset,
               v.data() + offset, g.data() + offset, step, gate.data(), n);
  CHECK(relative_error(p.values(), expected) < 1e-6);
  CHECK(relative_error(m.values(), expected_m) < 1e-6);
  CHECK(relative_error(v.values(), expected_v) < 1e-6);
  const Vector copied = copy.values();
  for (std::size_t i = static_cast<std::size_t>(offset); i < copied.size(); ++i)
    if (with_copy)
      REQUIRE(copied[i] == as_double(rounded_to<act>(p.values()[i])));
    else
      REQUIRE(std::isnan(copied[i]));
}

namespace {

// Five iterations amplify differences of one rounding.
constexpr bool kInBf16 = std::is_same_v<act, bf16>;
constexpr double kIterationTolerance = kInBf16 ? 2e-2 : 2e-4;

struct MatrixSize {
  int rows, cols;
};

Vector part(const Vector& values, std::int64_t begin, std::int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

}  // namespace

TEST_CASE("Muon", "[gemm]") {
  const auto [rows, cols] = GENERATE(MatrixSize{64, 64}, MatrixSize{128, 32}, MatrixSize{32, 128},
                                     MatrixSize{37, 20}, MatrixSize{20, 36});
  const bool fresh = GENERATE(true, false);  // the first step, or one with a variance from steps before
  const int count = 3, kept = std::max(rows, cols);
  INFO("rows " << rows << " cols " << cols << " fresh " << fresh);
  const std::int64_t size = std::int64_t{rows} * cols;
  const MuonStep step = {0.02f, 0.9f, 0.95f, 0.1f};
  DeviceArray<float> p(random(1, count * size)), momentum(random(2, count * size, 0.1)),
      g(random(3, count * size));
  Vector start_variance = reference::zeros(count * kept);
  for (std::size_t i = 0; i < start_variance.size() && !fresh; ++i)
    start_variance[i] = 0.01 + 0.05 * uniform01(4, 0, i);
  DeviceArray<float> variance(start_variance), gate(Vector{1.0});
  DeviceArray<float> workspace(muon_workspace(count, rows, cols));
  DeviceArray<act> copy(count * size);
  const Vector before = p.values(), old_momentum = momentum.values(), gradient = g.values();
  const Vector old_variance = variance.values();
  muon_update(device(), p.data(), copy.data(), momentum.data(), variance.data(), g.data(), workspace.data(),
              step, gate.data(), count, rows, cols);
  const Vector after = p.values(), new_momentum = momentum.values(), new_variance = variance.values();
  for (int i = 0; i < count; ++i) {
    INFO("matrix " << i);
    const Vector start = part(before, i * size, size);
    Vector expected = start, expected_momentum = part(old_momentum, i * size, size);
    Vector expected_variance = part(old_variance, i * kept, kept);
    reference::muon_update(expected, expected_momentum, expected_variance, part(gradient, i * size, size),
                           step, rows, cols, kInBf16);
    Vector update = part(after, i * size, size);
    for (std::size_t j = 0; j < update.size(); ++j) {
      update[j] -= start[j];
      expected[j] -= start[j];
    }
    CHECK(relative_error(part(new_momentum, i * size, size), expected_momentum) < 1e-6);
    CHECK(relative_error(part(new_variance, i * kept, kept), expected_variance) < kIterationTolerance / 2);
    CHECK(relative_error(update, expected) < kIterationTolerance);
  }
  const Vector copied = copy.values();
  for (std::size_t i = 0; i < copied.size(); ++i) REQUIRE(copied[i] == as_double(rounded_to<act>(after[i])));
}

TEST_CASE("Muon without any gradient only decays", "[gemm]") {
  const int rows = 48, cols = 32, n = rows * cols;
  DeviceArray<float> p(random(1, n)), momentum(reference::zeros(n)), g(reference::zeros(n));
  DeviceArray<float> variance(reference::zeros(rows)), gate(Vector{0.0}),
      workspace(muon_workspace(1, rows, cols));
  Vector expected = p.values();
  for (double& value : expected) value *= 1 - 0.02 * std::sqrt(1.5) * 0.1;
  muon_update(device(), p.data(), nullptr, momentum.data(), variance.data(), g.data(), workspace.data(),
              {0.02f, 0.9f, 0.95f, 0.1f}, gate.data(), 1, rows, cols);
  CHECK(relative_error(p.values(), expected) < 1e-6);
  CHECK(relative_error(momentum.values(), reference::zeros(n)) == 0);
}

TEST_CASE("a gate that is not finite stops every update", "[gemm]") {
  const double bad =
      GENERATE(std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN());
  DeviceArray<float> gate(Vector{bad}), g(random(1, 3 * 64 * 32)), workspace(muon_workspace(3, 64, 32));
  DeviceArray<float> p(random(2, 3 * 64 * 32)), first(random(3, 3 * 64 * 32)), second(random(4, 3 * 64 * 32));
  DeviceArray<act> copy(random(5, 3 * 64 * 32));
  const std::vector<Vector> before = {p.values(), first.values(), second.values(), copy.values()};
  adamw_update(device(), p.data(), copy.data(), first.data(), second.data(), g.data(),
               {0.01f, 0.8f, 0.95f, 1e-10f, 0.2f, 0.05f}, gate.data(), 3 * 64 * 32);
  muon_update(device(), p.data(), copy.data(), first.data(), second.data(), g.data(), workspace.data(),
              {0.02f, 0.9f, 0.95f, 0.1f}, gate.data(), 3, 64, 32);
  CHECK(before == std::vector<Vector>{p.values(), first.values(), second.values(), copy.values()});
}

TEST_CASE("compute copies of parameters") {
  const int n = GENERATE(1, 1001, 4096);
  DeviceArray<float> p(random(1, n));
  DeviceArray<act> copy(n);
  cast_parameters(device(), copy.data(), p.data(), n);
  Vector expected = p.values();
  for (double& value : expected) value = as_double(rounded_to<act>(value));
  CHECK(copy.values() == expected);
}
