// Token embedding, normalized.
#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"

namespace spillway {

void embedding_norm_forward(Cpu&, float* x, float* rstd, const std::int32_t* tokens, const float* wte,
                            int rows, int C) {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; ++r) {
    const float* source = wte + static_cast<std::int64_t>(tokens[r]) * C;
    float* target = x + static_cast<std::int64_t>(r) * C;
    rstd[r] = 1.0f / std::sqrt(cpu::dot(source, source, C) / static_cast<float>(C) + kNormEpsilon);
    for (int c = 0; c < C; ++c) target[c] = source[c] * rstd[r];
  }
}

void embedding_norm_backward(Cpu&, float* dwte, const float* dx, const float* x, const float* rstd,
                             const std::int32_t* tokens, int rows, int C, int V) {
  // Rows in order of their token (counting sort), so that each row of dwte has one thread and a fixed order of sums.
  std::vector<int> first(static_cast<std::size_t>(V) + 1, 0);
  for (int r = 0; r < rows; ++r) ++first[static_cast<std::size_t>(tokens[r]) + 1];
  for (std::size_t v = 0; v < static_cast<std::size_t>(V); ++v) first[v + 1] += first[v];
  std::vector<int> order(static_cast<std::size_t>(rows)), next(first.begin(), first.end() - 1);
  for (int r = 0; r < rows; ++r)
    order[static_cast<std::size_t>(next[static_cast<std::size_t>(tokens[r])]++)] = r;
#pragma omp parallel for schedule(dynamic, 64)
  for (int v = 0; v < V; ++v) {
    float* target = dwte + static_cast<std::int64_t>(v) * C;
    for (int i = first[static_cast<std::size_t>(v)]; i < first[static_cast<std::size_t>(v) + 1]; ++i) {
      const int r = order[static_cast<std::size_t>(i)];
      const float* gradient = dx + static_cast<std::int64_t>(r) * C;
      const float* output = x + static_cast<std::int64_t>(r) * C;
      const float mean = cpu::dot(gradient, output, C) / static_cast<float>(C);
      for (int c = 0; c < C; ++c) target[c] += rstd[r] * (gradient[c] - output[c] * mean);
    }
  }
}

}  // namespace spillway
