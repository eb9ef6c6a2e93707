// AdamW without weight decay.
#include <algorithm>
#include <cmath>

#include "kernels/ops.hpp"

namespace spillway {

void adamw_update(Cpu& device, float* p, float* compute_copy, float* m, float* v, const float* g,
                  const AdamwStep& step, const float* gate_total, std::int64_t n) {
  if (!std::isfinite(*gate_total)) return;
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    m[i] = step.beta1 * m[i] + (1.0f - step.beta1) * g[i];
    v[i] = step.beta2 * v[i] + (1.0f - step.beta2) * g[i] * g[i];
    const float mean = m[i] / step.bias_correction1;
    const float root = std::sqrt(v[i] / step.bias_correction2);
    p[i] -= step.learning_rate * mean / (root + step.epsilon);
  }
  if (compute_copy != nullptr && compute_copy != p) cast_parameters(device, compute_copy, p, n);
}

void cast_parameters(Cpu&, float* compute_copy, const float* p, std::int64_t n) {
  std::copy_n(p, n, compute_copy);
}

}  // namespace spillway
