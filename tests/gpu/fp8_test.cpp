// FP8 copies and products. Casts are checked bit for bit against a float64 rounding of the same numbers, products against a
// float64 sum over the FP8 numbers themselves, so that only the accumulation's rounding is left.
#include <algorithm>
#include <cmath>

#include "kernels/fp8.hpp"
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace spillway {
inline double as_double(fp8 value) {
  return value.bits;
}  // here, because lookup is by the argument's namespace
}  // namespace spillway

namespace {

struct Format {
  Fp8Format name;
  int mantissa_bits, lowest_exponent;
  double largest;
};
const Format kE4m3 = {Fp8Format::e4m3, 3, -6, 448};
const Format kE5m2 = {Fp8Format::e5m2, 2, -14, 57344};

// The number that a byte stands for.
double decode(std::uint8_t bits, const Format& format) {
  const int exponent_bits = 7 - format.mantissa_bits, mantissa = bits & ((1 << format.mantissa_bits) - 1);
  const int exponent = (bits & 0x7f) >> format.mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x80) != 0 ? -1 : 1;
  const bool nan = format.name == Fp8Format::e4m3 ? (bits & 0x7f) == 0x7f : (bits & 0x7f) > 0x7c;
  if (nan) return std::numeric_limits<double>::quiet_NaN();
  const double fraction = std::ldexp(mantissa, -format.mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

// The nearest number of the format, ties to even, beyond the largest the largest.
double round_to(double value, const Format& format) {
  if (std::isnan(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), format.lowest_exponent);
  const double step = std::ldexp(1, exponent - format.mantissa_bits);
  return std::clamp(std::nearbyint(value / step) * step, -format.largest, format.largest);
}

double factor_of(double amax, const Format& format) {
  if (amax == 0) return 1;
  const double room = std::ldexp(1, kFp8RoomLog2[static_cast<int>(format.name)]);
  return std::exp2(std::floor(std::log2(format.largest / room / amax)));
}

double largest_of(const Vector& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// A matrix in FP8 on the device, poisoned until written.
struct Tested {
  Tested(int row_count, int col_count, const Format& its_format)
      : rows(row_count),
        cols(col_count),
        format(its_format),
        direct(std::int64_t{rows} * cols),
        transposed(std::int64_t{rows} * cols),
        scale(8) {}

  Fp8Matrix matrix() {
    return {direct.data(), transposed.data(), reinterpret_cast<Fp8Scale*>(scale.data()), format.name};
  }
  double inverse() { return scale.values()[0]; }
  double amax() { return scale.values()[1]; }
  void set_amax(double value) {
    const Fp8Scale host = {0.0f, static_cast<float>(value)};
    device().copy_from_host(scale.data(), &host, sizeof host);
  }

  // The numbers that the matrix stands for; the transposed copy must have the same.
  Vector numbers() {
    const Vector bytes = direct.values(), other = transposed.values();
    const double unit = inverse();
    Vector result;
    bool same = true;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c) {
        const double byte = bytes[reference::at(std::int64_t{r} * cols + c)];
        same = same && byte == other[reference::at(std::int64_t{c} * rows + r)];
        result.push_back(unit * decode(static_cast<std::uint8_t>(byte), format));
      }
    CHECK(same);
    return result;
  }

  // expected[i] rounded to the format at the scale that `amax` asks for.
  Vector rounded(const Vector& expected, double largest) const {
    const double factor = factor_of(largest, format);
    Vector result;
    for (const double value : expected) result.push_back(round_to(value * factor, format) / factor);
    return result;
  }

  int rows, cols;
  Format format;
  DeviceArray<fp8> direct, transposed;
  DeviceArray<float> scale;  // one Fp8Scale, in its order
};

// Elements that differ, of all. Values that lie at the middle between two numbers may fall to either side where what was cast
// is itself the result of fp32 arithmetic.
double share_of_different(const Vector& actual, const Vector& expected) {
  std::size_t different = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) different += actual[i] != expected[i] ? 1 : 0;
  return static_cast<double>(different) / static_cast<double>(actual.size());
}

struct Size {
  int rows, cols;
};

}  // namespace

TEST_CASE("fp8 casts, measured and held", "[fp8]") {
  const auto [rows, cols] = GENERATE(Size{16, 16}, Size{128, 128}, Size{144, 272}, Size{400, 96});
  const Format format = GENERATE(kE4m3, kE5m2);
  const double size = GENERATE(1.0, 3e-9, 2e5);
  INFO("rows " << rows << " cols " << cols << " size " << size << " format "
               << static_cast<int>(format.name));
  DeviceArray<bf16> x(random(1, rows * cols, size));
  const Vector values = x.values();
  Tested out(rows, cols, format);
  fp8_cast(device(), out.matrix(), x.data(), rows, cols, Fp8Scaling::measure);
  CHECK(out.amax() == largest_of(values));
  CHECK(out.numbers() == out.rounded(values, largest_of(values)));
  // Under a held scale what is too large becomes the largest number.
  const double held = largest_of(values) / 64;
  out.set_amax(held);
  fp8_cast(device(), out.matrix(), x.data(), rows, cols, Fp8Scaling::hold);
  CHECK(out.numbers() == out.rounded(values, held));
}

TEST_CASE("fp8 casts of zeros, and of what is not finite", "[fp8]") {
  const Format format = GENERATE(kE4m3, kE5m2);
  const double strange = GENERATE(0.0, 1.0, 2.0);  // none, NaN, infinity
  Vector values = reference::zeros(16 * 32);
  if (strange > 0) {
    values = random(2, 16 * 32);
    values[77] =
        strange == 1.0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  }
  for (const Fp8Scaling scaling : {Fp8Scaling::measure, Fp8Scaling::hold}) {
    DeviceArray<bf16> x(values);
    Tested out(16, 32, format);
    out.set_amax(4);
    fp8_cast(device(), out.matrix(), x.data(), 16, 32, scaling);
    const Vector bytes = out.direct.values(), other = out.transposed.values();
    for (int i = 0; i < 16 * 32; ++i) {
      const double number = decode(static_cast<std::uint8_t>(bytes[reference::at(i)]), format);
      const double mirror =
          decode(static_cast<std::uint8_t>(other[reference::at((i % 32) * 16 + i / 32)]), format);
      CHECK(std::isnan(number) == (strange > 0 && i == 77));
      CHECK(std::isnan(mirror) == (strange > 0 && i == 77));
      if (strange == 0) CHECK(number == 0);
    }
  }
}

TEST_CASE("fp8 relu squared and its gradient", "[fp8]") {
  const auto [rows, cols] = GENERATE(Size{16, 32}, Size{272, 144}, Size{256, 384});
  INFO("rows " << rows << " cols " << cols);
  DeviceArray<bf16> h(random(1, rows * cols)), da(random(2, rows * cols, 1e-6));
  const Vector hidden = h.values(), gradient = da.values();
  Vector a, dh;
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    a.push_back(std::max(hidden[i], 0.0) * std::max(hidden[i], 0.0));
    dh.push_back(2 * std::max(hidden[i], 0.0) * gradient[i]);
  }
  Tested forward(rows, cols, kE4m3), backward(rows, cols, kE5m2);
  fp8_relu2_forward(device(), forward.matrix(), h.data(), rows, cols, Fp8Scaling::measure);
  CHECK(forward.numbers() == forward.rounded(a, largest_of(a)));  // products of bf16 numbers are exact
  fp8_relu2_backward(device(), backward.matrix(), da.data(), h.data(), rows, cols, Fp8Scaling::measure);
  CHECK(backward.numbers() == backward.rounded(dh, largest_of(dh)));
  const double amax = largest_of(dh) / 3;
  backward.set_amax(amax);
  fp8_relu2_backward(device(), backward.matrix(), da.data(), h.data(), rows, cols, Fp8Scaling::hold);
  CHECK(backward.numbers() == backward.rounded(dh, amax));
}

TEST_CASE("fp8 norm forward writes what mix_norm_forward and a cast write", "[fp8]") {
  const auto [rows, C] = GENERATE(Size{16, 64}, Size{48, 256}, Size{80, 768}, Size{64, 1280}, Size{32, 1024},
                                  Size{16, 1296}, Size{48, 3008}, Size{32, 4096});
  const bool mixed = GENERATE(false, true);
  INFO("rows " << rows << " C " << C << " mixed " << mixed);
  const Vector stream = random(1, std::int64_t{rows} * C, 3);
  DeviceArray<bf16> x(stream), other_x(stream), x0(random(2, std::int64_t{rows} * C));
  DeviceArray<bf16> h(std::int64_t{rows} * C), other_h(std::int64_t{rows} * C);
  DeviceArray<float> rstd(rows), other_rstd(rows), lambdas(Vector{0.9, 0.2});
  float* lambda_r = mixed ? lambdas.data() : nullptr;
  float* lambda_0 = mixed ? lambdas.data() + 1 : nullptr;
  Tested out(rows, C, kE4m3), other(rows, C, kE4m3);
  out.set_amax(std::sqrt(C));
  other.set_amax(std::sqrt(C));
  fp8_mix_norm_forward(device(), out.matrix(), h.data(), rstd.data(), x.data(), x0.data(), lambda_r, lambda_0,
                       rows, C);
  mix_norm_forward(device(), other_h.data(), other_rstd.data(), other_x.data(), x0.data(), lambda_r, lambda_0,
                   rows, C);
  fp8_cast(device(), other.matrix(), other_h.data(), rows, C, Fp8Scaling::hold);
  CHECK(x.values() == other_x.values());
  CHECK(h.values() == other_h.values());
  CHECK(rstd.values() == other_rstd.values());
  // The fused cast rounds once, from fp32; the other twice, through bf16.
  const Vector fused = out.numbers(), apart = other.numbers();
  CHECK(share_of_different(fused, apart) < 0.05);
  CHECK(relative_error(fused, apart) < 0.02);
  CHECK(relative_error(fused, h.values()) < 0.04);
}

TEST_CASE("fp8 norm backward writes what mix_norm_backward and a cast write", "[fp8]") {
  const auto [rows, C] = GENERATE(Size{16, 64}, Size{48, 256}, Size{80, 768}, Size{64, 1280}, Size{32, 1024},
                                  Size{16, 1296}, Size{48, 3008}, Size{32, 4096});
  const bool mixed = GENERATE(false, true);
  INFO("rows " << rows << " C " << C << " mixed " << mixed);
  const std::int64_t n = std::int64_t{rows} * C;
  const Vector stream = random(1, n), through_x0 = random(2, n), old(2, 0.5);
  DeviceArray<bf16> dx(stream), other_dx(stream), dx0(through_x0), other_dx0(through_x0);
  DeviceArray<bf16> dh(random(3, n)), h(random(4, n)), x0(random(5, n));
  DeviceArray<float> rstd(Vector(reference::at(rows), 0.7)), lambdas(Vector{0.9, 0.2});
  DeviceArray<float> dlambdas(old), other_dlambdas(old), workspace(mix_norm_workspace(rows));
  float* lambda_r = mixed ? lambdas.data() : nullptr;
  float* lambda_0 = mixed ? lambdas.data() + 1 : nullptr;
  Tested out(rows, C, kE5m2), other(rows, C, kE5m2);
  out.set_amax(6);
  other.set_amax(6);
  fp8_mix_norm_backward(device(), out.matrix(), dx.data(), dx0.data(), dlambdas.data(), dlambdas.data() + 1,
                        dh.data(), h.data(), rstd.data(), x0.data(), lambda_r, lambda_0, workspace.data(),
                        rows, C);
  mix_norm_backward(device(), other_dx.data(), other_dx0.data(), other_dlambdas.data(),
                    other_dlambdas.data() + 1, dh.data(), h.data(), rstd.data(), x0.data(), lambda_r,
                    lambda_0, workspace.data(), rows, C);
  fp8_cast(device(), other.matrix(), other_dx.data(), rows, C, Fp8Scaling::hold);
  CHECK(dx.values() == other_dx.values());
  CHECK(dx0.values() == other_dx0.values());
  const Vector sums = dlambdas.values(), other_sums = other_dlambdas.values();
  for (std::size_t i = 0; i < 2; ++i)
    CHECK(std::abs(sums[i] - other_sums[i]) <
          1e-5 * std::sqrt(n));  // fp32 sums of n numbers in another order
  const Vector fused = out.numbers(), apart = other.numbers();
  CHECK(share_of_different(fused, apart) < 0.05);
  CHECK(relative_error(fused, apart) < 0.03);
  CHECK(relative_error(fused, dx.values()) < 0.08);
}

TEST_CASE("fp8 rope and norm backward writes what rope_qk_norm_backward and a cast write", "[fp8]") {
  const int D = GENERATE(32, 64, 128);
  const int H = GENERATE(1, 3);
  const int B = 2, T = 72, rows = B * T, cols = 3 * H * D;
  INFO("D " << D << " H " << H);
  DeviceArray<bf16> dqkv(random(1, rows * cols, 1e-3)), qkv(random(2, rows * cols));
  DeviceArray<float> rstd(random(3, rows * 2 * H)), cosine(random(4, T * D / 2)), sine(random(5, T * D / 2));
  Tested out(rows, cols, kE5m2), other(rows, cols, kE5m2);
  out.set_amax(0.02);
  other.set_amax(0.02);
  fp8_rope_qk_norm_backward(device(), out.matrix(), dqkv.data(), qkv.data(), rstd.data(), cosine.data(),
                            sine.data(), B, T, H, D);
  rope_qk_norm_backward(device(), dqkv.data(), qkv.data(), rstd.data(), cosine.data(), sine.data(), B, T, H,
                        D);
  fp8_cast(device(), other.matrix(), dqkv.data(), rows, cols, Fp8Scaling::hold);
  const Vector fused = out.numbers(), apart = other.numbers();
  CHECK(share_of_different(fused, apart) < 0.05);
  CHECK(relative_error(fused, apart) < 0.03);
  CHECK(relative_error(fused, dqkv.values()) < 0.08);
}

TEST_CASE("fp8 linear layers against float64 sums of the same fp8 numbers", "[fp8][gemm]") {
  struct Sizes {
    int rows, in, out;
  };
  const auto [rows, in, out] = GENERATE(Sizes{16, 32, 48}, Sizes{144, 96, 272}, Sizes{256, 384, 128});
  const bool accumulate = GENERATE(false, true);
  INFO("rows " << rows << " in " << in << " out " << out << " accumulate " << accumulate);
  DeviceArray<bf16> x(random(1, rows * in)), W(random(2, out * in, 0.1)), dy(random(3, rows * out, 1e-5));
  Tested x8(rows, in, kE4m3), W8(out, in, kE4m3), dy8(rows, out, kE5m2);
  fp8_cast(device(), x8.matrix(), x.data(), rows, in, Fp8Scaling::measure);
  fp8_cast(device(), W8.matrix(), W.data(), out, in, Fp8Scaling::measure);
  fp8_cast(device(), dy8.matrix(), dy.data(), rows, out, Fp8Scaling::measure);
  const Vector old_y = random(4, rows * out), old_dx = random(5, rows * in, 1e-5),
               old_dW = random(6, out * in, 1e-4);
  DeviceArray<bf16> y(rows * out), dx(rows * in);
  DeviceArray<float> dW(out * in);
  DeviceArray<bf16> summed_y(old_y), summed_dx(old_dx);
  DeviceArray<float> summed_dW(old_dW);
  DeviceArray<bf16>& to_y = accumulate ? summed_y : y;
  DeviceArray<bf16>& to_dx = accumulate ? summed_dx : dx;
  DeviceArray<float>& to_dW = accumulate ? summed_dW : dW;
  Vector expected_y = accumulate ? to_y.values() : reference::zeros(rows * out);
  Vector expected_dx = accumulate ? to_dx.values() : reference::zeros(rows * in);
  Vector expected_dW = accumulate ? to_dW.values() : reference::zeros(out * in);
  reference::linear_forward(expected_y, x8.numbers(), W8.numbers(), rows, in, out);
  reference::linear_backward_input(expected_dx, dy8.numbers(), W8.numbers(), rows, in, out);
  reference::linear_backward_weight(expected_dW, dy8.numbers(), x8.numbers(), rows, in, out);
  fp8_linear_forward(device(), to_y.data(), x8.matrix(), W8.matrix(), rows, in, out, accumulate);
  fp8_linear_backward_input(device(), to_dx.data(), dy8.matrix(), W8.matrix(), rows, in, out, accumulate);
  fp8_linear_backward_weight(device(), to_dW.data(), dy8.matrix(), x8.matrix(), rows, in, out, accumulate);
  // bf16 outputs; the forward pass's fast accumulation keeps about 14 bits, less than bf16 loses.
  CHECK(relative_error(to_y.values(), expected_y) < 4e-3);
  CHECK(relative_error(to_dx.values(), expected_dx) < 4e-3);
  CHECK(relative_error(to_dW.values(), expected_dW) < 1e-3);
}

TEST_CASE("fp8 sizes that are no multiples of 16 are errors", "[fp8]") {
  DeviceArray<bf16> x(24 * 16);
  Tested out(16, 32, kE4m3);
  CHECK_THROWS_AS(fp8_cast(device(), out.matrix(), x.data(), 24, 16, Fp8Scaling::hold), std::runtime_error);
  CHECK_THROWS_AS(fp8_cast(device(), out.matrix(), x.data(), 16, 24, Fp8Scaling::hold), std::runtime_error);
}
