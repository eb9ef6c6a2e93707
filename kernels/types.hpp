// Types that kernels and their callers share. No CUDA syntax: this header is for every compiler.
#pragma once

#include <bit>
#include <cstdint>

namespace spillway {

// bfloat16 in memory: the upper half of a float. Layout-compatible with __nv_bfloat16.
struct bf16 {
  std::uint16_t bits;
};

inline float to_float(bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
inline float to_float(float value) { return value; }

// Round to nearest, ties to even; NaN stays NaN.
inline bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x0040u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// The value a float has after a round trip through bf16.
inline float round_to_bf16(float value) { return to_float(to_bf16(value)); }

}  // namespace spillway
