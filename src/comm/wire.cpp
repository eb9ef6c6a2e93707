#include "comm/wire.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.hpp"

// A function compiled for AVX2, too, with what is inlined into it; the processor chooses when the program starts. Encoding takes
// half the time (2026-11-28, AMD EPYC), and the bits are the same: products and sums are not contracted.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SPILLWAY_ALSO_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define SPILLWAY_ALSO_AVX2
#endif

namespace spillway {
namespace {

constexpr std::size_t kBlock = 256;
constexpr std::uint32_t kAbsolute = 0x7fff'ffff, kInfinity = 0x7f80'0000;
constexpr float kLargest = 127;
constexpr float kSmallest = 0x1p-100f;  // below, the scale would lose bits as a subnormal number
constexpr float kRounder = 0x1.8p23f;   // added and taken away, it rounds a small number to an integer

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  const bool nan = (bits & kAbsolute) > kInfinity;  // adding could carry a NaN over to zero
  return static_cast<std::uint16_t>(nan ? 0x7fc0 : rounded >> 16);
}

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

void store(std::byte* to, std::uint16_t value) { std::memcpy(to, &value, sizeof value); }

std::uint16_t load(const std::byte* from) {
  std::uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The largest magnitude; NaN counts as larger than infinity.
[[gnu::always_inline]] inline float magnitude(std::span<const float> block) {
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < block.size(); ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(block[i]) & kAbsolute);
  return std::bit_cast<float>(largest);
}

float scale_of(float largest) {
  if (!std::isfinite(largest)) return std::numeric_limits<float>::quiet_NaN();
  return largest < kSmallest ? 0.0f : from_bf16(to_bf16(largest / kLargest));
}

[[gnu::always_inline]] inline void encode_block(std::span<const float> block, std::byte* to) {
  const float scale = scale_of(magnitude(block));
  store(to, to_bf16(scale));
  to += sizeof(std::uint16_t);
  if (!(scale > 0)) {
    std::memset(to, 0, block.size());
    return;
  }
  const float inverse = 1 / scale;
#pragma omp simd
  for (std::size_t i = 0; i < block.size(); ++i) {
    const float q = std::clamp(block[i] * inverse + kRounder - kRounder, -kLargest, kLargest);
    to[i] = static_cast<std::byte>(static_cast<std::int8_t>(q));
  }
}

[[gnu::always_inline]] inline void decode_block(const std::byte* from, std::span<float> block) {
  const float scale = from_bf16(load(from));
  from += sizeof(std::uint16_t);
#pragma omp simd
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::int8_t>(from[i]) * scale;
}

}  // namespace

WireFormat parse_wire_format(const std::string& name) {
  if (name == "fp32") return WireFormat::fp32;
  if (name == "bf16") return WireFormat::bf16;
  if (name == "int8") return WireFormat::int8;
  fail(ExitCode::usage, "federation.compression = {}: expected fp32, bf16 or int8", name);
}

WireFormat optimizer_state_format(WireFormat format) {
  return format == WireFormat::int8 ? WireFormat::bf16 : format;
}

std::int64_t wire_bytes(WireFormat format, std::int64_t count) {
  constexpr auto block = static_cast<std::int64_t>(kBlock);
  switch (format) {
    case WireFormat::fp32:
      return 4 * count;
    case WireFormat::bf16:
      return 2 * count;
    case WireFormat::int8:
      return count + 2 * ((count + block - 1) / block);
  }
  return 0;
}

SPILLWAY_ALSO_AVX2 void wire_encode(WireFormat format, std::span<const float> values, std::byte* to) {
  if (values.empty()) return;
  switch (format) {
    case WireFormat::fp32:
      std::memcpy(to, values.data(), values.size_bytes());
      return;
    case WireFormat::bf16:
#pragma omp simd
      for (std::size_t i = 0; i < values.size(); ++i) store(to + 2 * i, to_bf16(values[i]));
      return;
    case WireFormat::int8:
      for (std::size_t i = 0; i < values.size(); i += kBlock, to += kBlock + 2)
        encode_block(values.subspan(i, std::min(kBlock, values.size() - i)), to);
      return;
  }
}

SPILLWAY_ALSO_AVX2 void wire_decode(WireFormat format, const std::byte* from, std::span<float> values) {
  if (values.empty()) return;
  switch (format) {
    case WireFormat::fp32:
      std::memcpy(values.data(), from, values.size_bytes());
      return;
    case WireFormat::bf16:
#pragma omp simd
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = from_bf16(load(from + 2 * i));
      return;
    case WireFormat::int8:
      for (std::size_t i = 0; i < values.size(); i += kBlock, from += kBlock + 2)
        decode_block(from, values.subspan(i, std::min(kBlock, values.size() - i)));
      return;
  }
}

}  // namespace spillway
