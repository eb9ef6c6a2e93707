// exp and tanh that compilers vectorize: no branches, no tables.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace spillway::cpu {

// eˣ, relative error below 2e-7 for |x| ≤ 87; arguments outside are clamped. Cody–Waite reduction to |r| ≤ ln2/2 and the
// Taylor polynomial of degree 7 (remainder 5e-9 there).
inline float fast_exp(float x) {
  x = std::min(std::max(x, -87.0f), 87.0f);
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5·2²³: rounds to the nearest integer
  const auto n = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - 0x4B400000u);
  const float whole = shifted - 12582912.0f;
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23);
}

// tanh x; absolute error below 3e-7. Small |x| by the Taylor series, where 1 − 2/(e²ˣ + 1) would cancel.
inline float fast_tanh(float x) {
  const float square = x * x;
  const float small =
      x * (1.0f + square * (-1.0f / 3.0f + square * (2.0f / 15.0f - square * (17.0f / 315.0f))));
  const float large = 1.0f - 2.0f / (fast_exp(2.0f * x) + 1.0f);
  return square < 0.01f ? small : large;
}

}  // namespace spillway::cpu
