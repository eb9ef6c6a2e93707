// Squared ReLU.
#include <algorithm>
#include <cmath>

#include "kernels/ops.hpp"

namespace spillway {

void relu2_forward(Cpu&, float* a, const float* h, std::int64_t n) {
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    const float positive = std::max(h[i], 0.0f);
    a[i] = positive * positive;
  }
}

void relu2_backward(Cpu&, float* dh, const float* da, const float* a, std::int64_t n) {
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) dh[i] = 2.0f * std::sqrt(a[i]) * da[i];
}

}  // namespace spillway
