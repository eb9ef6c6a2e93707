// Softcapped cross entropy. The cap bounds |z| ≤ 15: no running maximum is needed (e¹⁵·V fits a float).
#include <cmath>

#include "kernels/cpu/fast_math.hpp"
#include "kernels/ops.hpp"

namespace spillway {
namespace {

float capped(float u) { return kLogitSoftcap * cpu::fast_tanh(u / kLogitSoftcap); }

}  // namespace

void softcap_cross_entropy(Cpu&, float* losses, float* logits, const std::int32_t* targets, float dscale,
                           int rows, int V) {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; ++r) {
    float* u = logits + static_cast<std::int64_t>(r) * V;
    if (targets[r] < 0) {
      losses[r] = 0;
      if (dscale != 0)
        for (int v = 0; v < V; ++v) u[v] = 0;
      continue;
    }
    const float target = capped(u[targets[r]]);
    float sum = 0;
    if (dscale == 0) {
#pragma omp simd reduction(+ : sum)
      for (int v = 0; v < V; ++v) sum += cpu::fast_exp(capped(u[v]));
      losses[r] = std::log(sum) - target;
      continue;
    }
#pragma omp simd reduction(+ : sum)
    for (int v = 0; v < V; ++v) {
      u[v] = capped(u[v]);
      sum += cpu::fast_exp(u[v]);
    }
    losses[r] = std::log(sum) - target;
    const float inverse = 1.0f / sum;
#pragma omp simd
    for (int v = 0; v < V; ++v) {
      const float slope = 1.0f - u[v] * u[v] * (1.0f / (kLogitSoftcap * kLogitSoftcap));
      u[v] = dscale * cpu::fast_exp(u[v]) * inverse * slope;
    }
    u[targets[r]] -= dscale * (1.0f - target * target / (kLogitSoftcap * kLogitSoftcap));
  }
}

}  // namespace spillway
