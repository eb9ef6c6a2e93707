// Products with an elementwise op behind them, against the float64 references of both, one after the other.
#include "model/rope.hpp"
#include "tests/kernels/attention_check.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

struct Size {
  int rows, in, out;
};

void check_relu2(const Size& size) {
  const auto [rows, in, out] = size;
  INFO("rows " << rows << " in " << in << " out " << out);
  DeviceArray<act> x(random(1, std::int64_t{rows} * in)), W(random(2, std::int64_t{out} * in, 0.1));
  DeviceArray<act> a(std::int64_t{rows} * out);
  Vector h = reference::zeros(std::int64_t{rows} * out);
  reference::linear_forward(h, x.values(), W.values(), rows, in, out);
  linear_relu2_forward(device(), a.data(), x.data(), W.data(), rows, in, out);
  CHECK(relative_error(a.values(), reference::relu2_forward(h)) < kTolerance);

  // The layer that follows: its input is what relu² gave, so "in" and "out" change places.
  DeviceArray<act> next_W(random(3, std::int64_t{in} * out, 0.1)), dy(random(4, std::int64_t{rows} * in));
  DeviceArray<act> dh(std::int64_t{rows} * out);
  Vector da = reference::zeros(std::int64_t{rows} * out);
  reference::linear_backward_input(da, dy.values(), next_W.values(), rows, out, in);
  linear_relu2_backward(device(), dh.data(), dy.data(), next_W.data(), a.data(), rows, out, in);
  CHECK(relative_error(dh.values(), reference::relu2_backward(da, a.values())) < kTolerance);
}

void check_qkv(int B, int T, int H, int D) {
  INFO("B " << B << " T " << T << " H " << H << " D " << D);
  const int rows = B * T, C = H * D;
  const RopeTables tables = rope_tables(T, D);
  DeviceArray<float> cosine(tables.cosine), sine(tables.sine), rstd(std::int64_t{rows} * 2 * H);
  DeviceArray<act> x(random(1, std::int64_t{rows} * C)), W(random(2, std::int64_t{3} * C * C, 0.1));
  DeviceArray<act> qkv(std::int64_t{rows} * 3 * C);
  Vector expected = reference::zeros(std::int64_t{rows} * 3 * C), expected_rstd;
  reference::linear_forward(expected, x.values(), W.values(), rows, C, 3 * C);
  reference::rope_qk_norm_forward(expected, expected_rstd, cosine.values(), sine.values(), B, T, H, D);
  qkv_forward(device(), qkv.data(), rstd.data(), x.data(), W.data(), cosine.data(), sine.data(), B, T, H, D);
  CHECK(relative_error(qkv.values(), expected) < kTolerance);
  CHECK(relative_error(rstd.values(), expected_rstd) < kTolerance);
}

// The q, k or v part of (rows, 3, C).
Vector part_of(const Vector& qkv, int which, int C) {
  Vector part;
  for (std::size_t i = 0; i < qkv.size(); ++i)
    if (static_cast<int>(i / static_cast<std::size_t>(C) % 3) == which) part.push_back(qkv[i]);
  return part;
}

void check_rope_backward(int B, int T, int H, int D) {
  INFO("B " << B << " T " << T << " H " << H << " D " << D);
  const std::int64_t rows = std::int64_t{B} * T;
  const RopeTables tables = rope_tables(T, D);
  Vector positive = random(3, rows * 2 * H);
  for (double& value : positive) value = 0.5 + std::abs(value);
  DeviceArray<float> cosine(tables.cosine), sine(tables.sine), rstd(positive), lse(rows * H);
  DeviceArray<float> workspace(attention_workspace(B, T, H));
  DeviceArray<act> qkv(normalized_qkv(1, B, T, H, D)), o(rows * H * D), d_o(random(2, rows * H * D));
  DeviceArray<act> dqkv(rows * 3 * H * D);
  attention_forward(device(), o.data(), lse.data(), qkv.data(), B, T, H, D);
  attention_rope_backward(device(), dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(), rstd.data(),
                          cosine.data(), sine.data(), workspace.data(), B, T, H, D);
  Vector expected = reference::attention_backward(d_o.values(), qkv.values(), B, T, H, D);
  reference::rope_qk_norm_backward(expected, qkv.values(), rstd.values(), cosine.values(), sine.values(), B,
                                   T, H, D);
  const Vector actual = dqkv.values();
  for (int which = 0; which < 3; ++which) {
    INFO("gradient of "
         << "qkv"[which]);
    CHECK(relative_error(part_of(actual, which, H * D), part_of(expected, which, H * D)) < kTolerance);
  }
}

}  // namespace

// Rows of 16 bytes: a device's own kernels serve these. Around tiles of 256 × 256 and steps of 64 along k.
TEST_CASE("linear layers with relu squared") {
  check_relu2(
      GENERATE(Size{1, 8, 8}, Size{37, 96, 72}, Size{129, 64, 264}, Size{257, 72, 256}, Size{300, 200, 520}));
}
// A tile's results leave in pieces under the next tile's products: all between two steps, or spread over many.
TEST_CASE("linear layers with relu squared, more tiles than multiprocessors") {
  check_relu2(GENERATE(Size{2600, 72, 2624}, Size{9, 712, 17216}));
}
TEST_CASE("linear layers with relu squared, odd rows", "[gemm]") {
  check_relu2(GENERATE(Size{37, 91, 65}, Size{3, 64, 33}));
}
TEST_CASE("linear layers with relu squared keep a NaN visible") {
  DeviceArray<act> x(64), W(random(1, 64 * 64)), a(64);  // x is poisoned: all NaN
  linear_relu2_forward(device(), a.data(), x.data(), W.data(), 1, 64, 64);
  for (const double value : a.values()) CHECK(std::isnan(value));
}

TEST_CASE("the fused projection with RoPE and QK norm") {
  const int D = GENERATE(64, 128);
  const int T = GENERATE(1, 37, 150);
  check_qkv(2, T, GENERATE(1, 3), D);
}
TEST_CASE("the fused projection with RoPE and QK norm, more tiles than multiprocessors") {
  check_qkv(2, 2850, 2, 128);
  check_qkv(2, 2850, 3, 64);
}
TEST_CASE("the fused projection with RoPE and QK norm, D = 32", "[gemm]") { check_qkv(2, 33, 3, 32); }

TEST_CASE("attention backward with RoPE and QK norm") {
  check_rope_backward(2, GENERATE(17, 64, 129, 300), 3, GENERATE(32, 64, 128));
}
