// Linear layers, relu², sums.
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

struct LinearSize {
  int rows, in, out;
};

// Only some devices have a choice.
template <class Dev>
void set_deterministic(Dev& dev, bool deterministic) {
  if constexpr (requires { dev.deterministic; }) dev.deterministic = deterministic;
}

}  // namespace

TEST_CASE("linear layers", "[gemm]") {
  const auto [rows, in, out] = GENERATE(LinearSize{1, 32, 32}, LinearSize{37, 96, 65},
                                        LinearSize{130, 64, 257}, LinearSize{256, 128, 384});
  const bool accumulate = GENERATE(false, true);
  const bool deterministic = GENERATE(false, true);
  INFO("rows " << rows << " in " << in << " out " << out << " accumulate " << accumulate);
  set_deterministic(device(), deterministic);
  DeviceArray<act> x(random(1, rows * in)), W(random(2, out * in, 0.1)), dy(random(3, rows * out));
  DeviceArray<act> old_y(random(4, rows * out)), old_dx(random(5, rows * in));
  DeviceArray<float> old_dW(random(6, out * in));
  // Where the op overwrites, the output starts as NaN.
  DeviceArray<act> fresh_y(rows * out), fresh_dx(rows * in);
  DeviceArray<float> fresh_dW(out * in);
  DeviceArray<act>& y = accumulate ? old_y : fresh_y;
  DeviceArray<act>& dx = accumulate ? old_dx : fresh_dx;
  DeviceArray<float>& dW = accumulate ? old_dW : fresh_dW;
  Vector expected_y = accumulate ? y.values() : reference::zeros(rows * out);
  Vector expected_dx = accumulate ? dx.values() : reference::zeros(rows * in);
  Vector expected_dW = accumulate ? dW.values() : reference::zeros(out * in);

  reference::linear_forward(expected_y, x.values(), W.values(), rows, in, out);
  linear_forward(device(), y.data(), x.data(), W.data(), rows, in, out, accumulate);
  CHECK(relative_error(y.values(), expected_y) < kTolerance);

  reference::linear_backward_input(expected_dx, dy.values(), W.values(), rows, in, out);
  linear_backward_input(device(), dx.data(), dy.data(), W.data(), rows, in, out, accumulate);
  CHECK(relative_error(dx.values(), expected_dx) < kTolerance);

  reference::linear_backward_weight(expected_dW, dy.values(), x.values(), rows, in, out);
  linear_backward_weight(device(), dW.data(), dy.data(), x.data(), rows, in, out, accumulate);
  CHECK(relative_error(dW.values(), expected_dW) < kFloatTolerance);
  set_deterministic(device(), false);
}

TEST_CASE("relu squared") {
  const int n = GENERATE(1, 8, 1001, 4096);
  INFO("n " << n);
  DeviceArray<act> h(random(1, n)), a(n), da(random(2, n));
  const Vector expected = reference::relu2_forward(h.values());
  relu2_forward(device(), a.data(), h.data(), n);
  CHECK(relative_error(a.values(), expected) < kTolerance);
  const Vector gradient = reference::relu2_backward(da.values(), a.values());
  relu2_backward(device(), da.data(), da.data(), a.data(), n);
  CHECK(relative_error(da.values(), gradient) < kTolerance);
  relu2_forward(device(), h.data(), h.data(), n);
  CHECK(relative_error(h.values(), expected) < kTolerance);
}

TEST_CASE("relu squared keeps a NaN visible") {
  DeviceArray<act> h(8), a(8);  // poisoned: all NaN
  relu2_forward(device(), a.data(), h.data(), 8);
  for (const double value : a.values()) CHECK(std::isnan(value));
}

TEST_CASE("sums, scale and add") {
  const int n = GENERATE(1, 3, 1000, 2100007);
  const int offset = GENERATE(0, 1);  // an unaligned start
  INFO("n " << n << " offset " << offset);
  DeviceArray<float> values(random(1, n + offset)), total(Vector{7.0, 7.0, 7.0, 7.0});
  double expected = 0, squares = 0, size = 0;
  const Vector host = values.values();
  for (std::size_t i = static_cast<std::size_t>(offset); i < host.size(); ++i) {
    expected += host[i];
    size += std::abs(host[i]);
    squares += host[i] * host[i];
  }
  sum(device(), total.data(), values.data() + offset, n, false);
  sum(device(), total.data() + 1, values.data() + offset, n, true);
  sum_of_squares(device(), total.data() + 2, values.data() + offset, n, false);
  sum_of_squares(device(), total.data() + 3, values.data() + offset, n, true);
  const Vector totals = total.values();
  CHECK(std::abs(totals[0] - expected) < 1e-6 * size + 1e-6);
  CHECK(std::abs(totals[1] - expected - 7) < 1e-6 * size + 1e-6);
  CHECK(totals[2] == Approx(squares).epsilon(1e-5));
  CHECK(totals[3] == Approx(squares + 7).epsilon(1e-5));

  scale(device(), values.data() + offset, 0.5f, n);
  Vector halved = host;
  for (std::size_t i = static_cast<std::size_t>(offset); i < host.size(); ++i) halved[i] *= 0.5;
  CHECK(relative_error(values.values(), halved) < 1e-7);

  const Vector addends = random(2, n + offset);
  Vector added = halved;
  for (std::size_t i = static_cast<std::size_t>(offset); i < host.size(); ++i) added[i] += addends[i];
  DeviceArray<float> more(addends);
  add(device(), values.data() + offset, more.data() + offset, n);
  CHECK(relative_error(values.values(), added) < 1e-6);
}

TEST_CASE("a non-finite value gives a non-finite sum of squares") {
  Vector host = random(1, 5000);
  host[4321] = GENERATE(std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN());
  DeviceArray<float> values(host), total(1);
  sum_of_squares(device(), total.data(), values.data(), 5000, false);
  CHECK_FALSE(std::isfinite(total.values()[0]));
}
