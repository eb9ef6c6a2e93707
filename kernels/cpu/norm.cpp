// RMS norm and the residual stream's mix with the embedding.
#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"

namespace spillway {
namespace {

float row_rstd(const float* x, int C) {
  return 1.0f / std::sqrt(cpu::dot(x, x, C) / static_cast<float>(C) + kNormEpsilon);
}

}  // namespace

void mix_norm_forward(Cpu&, float* h, float* rstd, float* x, const float* x0, const float* lambda_r,
                      const float* lambda_0, int rows, int C) {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = static_cast<std::int64_t>(r) * C;
    if (lambda_r != nullptr)
      for (int c = 0; c < C; ++c) x[row + c] = *lambda_r * x[row + c] + *lambda_0 * x0[row + c];
    rstd[r] = row_rstd(x + row, C);
    for (int c = 0; c < C; ++c) h[row + c] = x[row + c] * rstd[r];
  }
}

void mix_norm_backward(Cpu&, float* dx, float* dx0, float* dlambda_r, float* dlambda_0, const float* dh,
                       const float* h, const float* rstd, const float* x0, const float* lambda_r,
                       const float* lambda_0, float* workspace, int rows, int C) {
  const bool mixed = lambda_r != nullptr;
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = static_cast<std::int64_t>(r) * C;
    const float mean = cpu::dot(dh + row, h + row, C) / static_cast<float>(C);
    for (int c = 0; c < C; ++c) dx[row + c] += rstd[r] * (dh[row + c] - h[row + c] * mean);
    if (!mixed) continue;
    workspace[2 * r] = cpu::dot(dx + row, x0 + row, C);
    workspace[2 * r + 1] = cpu::dot(dx + row, h + row, C) / rstd[r];
    for (int c = 0; c < C; ++c) {
      dx0[row + c] += *lambda_0 * dx[row + c];
      dx[row + c] *= *lambda_r;
    }
  }
  if (!mixed) return;
  const double with_x0 = cpu::chunked_sum(rows, [&](std::int64_t r) { return double{workspace[2 * r]}; });
  const double with_mixed =
      cpu::chunked_sum(rows, [&](std::int64_t r) { return double{workspace[2 * r + 1]}; });
  *dlambda_0 += static_cast<float>(with_x0);
  *dlambda_r += static_cast<float>((with_mixed - *lambda_0 * with_x0) / *lambda_r);
}

}  // namespace spillway
