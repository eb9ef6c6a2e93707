// Causal attention of any kind against the float64 reference.
#pragma once

#include "tests/kernels/support.hpp"

namespace spillway::test {

// (rows, 3, H, D) with RMS-normalized q and k, as the ops require.
inline Vector normalized_qkv(std::uint64_t seed, int B, int T, int H, int D) {
  const std::int64_t rows = std::int64_t{B} * T;
  Vector qkv = random(seed, rows * 3 * H * D), rstd;
  const Vector cosine(static_cast<std::size_t>(T * D / 2), 1.0),
      sine(static_cast<std::size_t>(T * D / 2), 0.0);
  reference::rope_qk_norm_forward(qkv, rstd, cosine, sine, B, T, H, D);
  return qkv;
}

// Forward and backward pass against the float64 reference.
inline void check_attention(int B, int T, int H, int D) {
  const std::int64_t rows = std::int64_t{B} * T;
  DeviceArray<act> qkv(normalized_qkv(1, B, T, H, D)), o(rows * H * D), d_o(random(2, rows * H * D));
  DeviceArray<act> dqkv(rows * 3 * H * D);
  DeviceArray<float> lse(rows * H), workspace(attention_workspace(B, T, H));
  Vector expected, expected_lse;
  attention_forward(device(), o.data(), lse.data(), qkv.data(), B, T, H, D);
  reference::attention_forward(expected, expected_lse, qkv.values(), B, T, H, D);
  CHECK(relative_error(o.values(), expected) < kTolerance);
  CHECK(relative_error(lse.values(), expected_lse) < kStatisticTolerance);

  attention_backward(device(), dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(), workspace.data(), B,
                     T, H, D);
  const Vector gradient = reference::attention_backward(d_o.values(), qkv.values(), B, T, H, D);
  const Vector actual = dqkv.values();
  for (int which = 0; which < 3; ++which) {
    Vector part, expected_part;
    for (std::int64_t row = 0; row < rows; ++row)
      for (int i = 0; i < H * D; ++i) {
        const auto place = static_cast<std::size_t>((row * 3 + which) * H * D + i);
        part.push_back(actual[place]);
        expected_part.push_back(gradient[place]);
      }
    INFO("gradient of "
         << "qkv"[which]);
    // A sequence of one token has no gradient at q and k: what is left is the rounding of o.
    if (T == 1 && which < 2)
      CHECK(relative_error(part, reference::zeros(rows * H * D)) <
            0.05 * std::sqrt(static_cast<double>(rows * H * D)));
    else
      CHECK(relative_error(part, expected_part) < kTolerance);
  }
}

}  // namespace spillway::test
