// Formats of values on the link: errors against float64, idempotence, sizes, what is not finite.
#include "comm/wire.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

constexpr std::uint64_t kSeed = 11;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::vector<std::byte> encoded(WireFormat format, const std::vector<float>& values) {
  const auto bytes = static_cast<std::size_t>(wire_bytes(format, static_cast<std::int64_t>(values.size())));
  std::vector<std::byte> buffer(bytes + 8, std::byte{0xa5});
  wire_encode(format, values, buffer.data());
  for (std::size_t i = bytes; i < buffer.size(); ++i) REQUIRE(buffer[i] == std::byte{0xa5});
  buffer.resize(bytes);
  return buffer;
}

std::vector<float> through(WireFormat format, const std::vector<float>& values) {
  std::vector<float> result(values.size(), kNan);
  wire_decode(format, encoded(format, values).data(), result);
  return result;
}

// Magnitudes over many powers of two, as the tensors of a model have.
std::vector<float> sample(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = normal01(kSeed, 0, i) * std::exp2(static_cast<float>(i / 256 % 60) - 40.0f);
  return values;
}

}  // namespace

TEST_CASE("values on the link: sizes") {
  CHECK(wire_bytes(WireFormat::fp32, 1000) == 4000);
  CHECK(wire_bytes(WireFormat::bf16, 1000) == 2000);
  CHECK(wire_bytes(WireFormat::int8, 1000) == 1000 + 2 * 4);
  CHECK(wire_bytes(WireFormat::int8, 512) == 512 + 2 * 2);
  CHECK(wire_bytes(WireFormat::int8, 0) == 0);
  CHECK_THROWS_AS(parse_wire_format("fp16"), Error);
  CHECK(optimizer_state_format(WireFormat::fp32) == WireFormat::fp32);
  CHECK(optimizer_state_format(WireFormat::bf16) == WireFormat::bf16);
  CHECK(optimizer_state_format(WireFormat::int8) == WireFormat::bf16);
}

TEST_CASE("values on the link: rounding stays within half a unit") {
  INFO("seed " << kSeed);
  const std::size_t count = GENERATE(as<std::size_t>{}, 1, 2, 255, 256, 257, 20'001);
  const auto values = sample(count);
  CHECK(through(WireFormat::fp32, values) == values);
  const auto bf16 = through(WireFormat::bf16, values);
  const auto int8 = through(WireFormat::int8, values);
  int bf16_wrong = 0, int8_wrong = 0;
  for (std::size_t first = 0; first < count; first += 256) {
    const std::size_t end = std::min(count, first + 256);
    double largest = 0;
    for (std::size_t i = first; i < end; ++i) largest = std::max(largest, std::abs(double{values[i]}));
    for (std::size_t i = first; i < end; ++i) {
      bf16_wrong += std::abs(double{bf16[i]} - values[i]) > std::abs(double{values[i]}) / 256;
      // Half a step, and up to a quarter more where the scale was rounded down and the largest value is clamped.
      int8_wrong += std::abs(double{int8[i]} - values[i]) > 0.76 * largest / 127;
    }
  }
  CHECK(bf16_wrong == 0);
  CHECK(int8_wrong == 0);
}

TEST_CASE("values on the link: what was decoded is encoded to the same values") {
  INFO("seed " << kSeed);
  const auto format = GENERATE(WireFormat::bf16, WireFormat::int8);
  const auto once = through(format, sample(100'003));
  CHECK(through(format, once) == once);
  CHECK(encoded(format, once) == encoded(format, through(format, once)));
}

TEST_CASE("values on the link: zero, tiny, huge and not finite") {
  const std::vector<float> zero(300, 0.0f);
  for (const auto format : {WireFormat::bf16, WireFormat::int8}) CHECK(through(format, zero) == zero);

  CHECK(through(WireFormat::int8, std::vector<float>(5, 1e-35f)) == std::vector<float>(5, 0.0f));
  const float huge = 3e38f;
  CHECK(through(WireFormat::int8, {huge, -huge})[0] == Approx(huge).epsilon(0.005));

  const auto bf16 = through(WireFormat::bf16, {1.0f, kNan, -kInf, 2.0f});
  CHECK(bf16[0] == 1.0f);
  CHECK(std::isnan(bf16[1]));
  CHECK(bf16[2] == -kInf);
  CHECK(bf16[3] == 2.0f);
  for (const float bad : {kNan, kInf}) {
    std::vector<float> values(512, 1.0f);
    values[3] = bad;
    const auto int8 = through(WireFormat::int8, values);
    CHECK(std::isnan(int8[3]));
    CHECK(int8[256] == Approx(1.0f).epsilon(0.005));
  }
}
