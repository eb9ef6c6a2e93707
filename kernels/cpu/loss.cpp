// Softcapped cross entropy. The cap bounds |z| ≤ 15: no running maximum is needed (e¹⁵·V fits a float).
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/fast_math.hpp"
#include "kernels/ops.hpp"

namespace spillway {
namespace {

float squashed(float u) { return cpu::fast_tanh(u * (1.0f / kLogitSoftcap)); }

float row_loss(const float* u, int target, int V) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int v = 0; v < V; ++v) sum += cpu::fast_exp(kLogitSoftcap * squashed(u[v]));
  return std::log(sum) - kLogitSoftcap * squashed(u[target]);
}

// Leaves the gradient in u. exponentials: scratch of V floats, which stays in the cache between the two passes.
float row_loss_and_gradient(float* u, float* exponentials, int target, float dscale, int V) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int v = 0; v < V; ++v) {
    u[v] = squashed(u[v]);
    exponentials[v] = cpu::fast_exp(kLogitSoftcap * u[v]);
    sum += exponentials[v];
  }
  const float at_target = u[target];
  const float factor = dscale / sum;
#pragma omp simd
  for (int v = 0; v < V; ++v) u[v] = factor * exponentials[v] * (1.0f - u[v] * u[v]);
  u[target] -= dscale * (1.0f - at_target * at_target);
  return std::log(sum) - kLogitSoftcap * at_target;
}

}  // namespace

void softcap_cross_entropy(Cpu&, float* losses, float* logits, const std::int32_t* targets, float dscale,
                           int rows, int V) {
#pragma omp parallel
  {
    std::vector<float> exponentials(dscale != 0 ? static_cast<std::size_t>(V) : 0);
#pragma omp for schedule(static)
    for (int r = 0; r < rows; ++r) {
      float* u = logits + static_cast<std::int64_t>(r) * V;
      if (targets[r] < 0) {
        losses[r] = 0;
        if (dscale != 0) std::fill_n(u, V, 0.0f);
      } else if (dscale == 0) {
        losses[r] = row_loss(u, targets[r], V);
      } else {
        losses[r] = row_loss_and_gradient(u, exponentials.data(), targets[r], dscale, V);
      }
    }
  }
}

}  // namespace spillway
