// Rotary position embedding and norm of queries and keys.
#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"

namespace spillway {
namespace {

// Rotates the pairs (x[j], x[j + half]) by −θ in place; with the sine's sign turned, by +θ.
void rotate(float* x, const float* cosine, const float* sine, float sign, int half) {
#pragma omp simd
  for (int j = 0; j < half; ++j) {
    const float x1 = x[j], x2 = x[j + half], s = sign * sine[j];
    x[j] = x1 * cosine[j] + x2 * s;
    x[j + half] = x2 * cosine[j] - x1 * s;
  }
}

}  // namespace

void rope_qk_norm_forward(Cpu&, float* qkv, float* rstd, const float* cosine, const float* sine, int B, int T,
                          int H, int D) {
  const int half = D / 2;
#pragma omp parallel for schedule(static)
  for (int r = 0; r < B * T; ++r) {
    const float* cos_row = cosine + static_cast<std::int64_t>(r % T) * half;
    const float* sin_row = sine + static_cast<std::int64_t>(r % T) * half;
    for (int head = 0; head < 2 * H; ++head) {  // all of q, then all of k
      float* x = qkv + (static_cast<std::int64_t>(r) * 3 * H + head) * D;
      rotate(x, cos_row, sin_row, 1.0f, half);
      const float scale = 1.0f / std::sqrt(cpu::dot(x, x, D) / static_cast<float>(D) + kNormEpsilon);
      rstd[static_cast<std::int64_t>(r) * 2 * H + head] = scale;
#pragma omp simd
      for (int j = 0; j < D; ++j) x[j] *= scale;
    }
  }
}

void rope_qk_norm_backward(Cpu&, float* dqkv, const float* qkv, const float* rstd, const float* cosine,
                           const float* sine, int B, int T, int H, int D) {
  const int half = D / 2;
#pragma omp parallel for schedule(static)
  for (int r = 0; r < B * T; ++r) {
    const float* cos_row = cosine + static_cast<std::int64_t>(r % T) * half;
    const float* sin_row = sine + static_cast<std::int64_t>(r % T) * half;
    for (int head = 0; head < 2 * H; ++head) {
      const std::int64_t at = (static_cast<std::int64_t>(r) * 3 * H + head) * D;
      float* d = dqkv + at;
      const float* y = qkv + at;
      const float scale = rstd[static_cast<std::int64_t>(r) * 2 * H + head];
      const float mean = cpu::dot(d, y, D) / static_cast<float>(D);
#pragma omp simd
      for (int j = 0; j < D; ++j) d[j] = scale * (d[j] - y[j] * mean);
      rotate(d, cos_row, sin_row, -1.0f, half);
    }
  }
}

}  // namespace spillway
