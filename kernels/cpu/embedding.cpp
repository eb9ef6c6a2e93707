// Token embedding, normalized.
#include <algorithm>
#include <cmath>
#include <numeric>
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

void order_by_token(std::span<std::int32_t> order, std::span<const std::int32_t> tokens, int V) {
  std::vector<std::size_t> next(static_cast<std::size_t>(V) + 1, 0);
  for (const std::int32_t token : tokens) ++next[static_cast<std::size_t>(token) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (std::size_t r = 0; r < tokens.size(); ++r)
    order[next[static_cast<std::size_t>(tokens[r])]++] = static_cast<std::int32_t>(r);
}

void embedding_norm_backward(Cpu&, float* dwte, const float* dx, const float* dx0, const float* x,
                             const float* rstd, const std::int32_t* tokens, const std::int32_t* order,
                             int rows, int C) {
  // One thread per run of equal tokens: each row of dwte has a fixed order of sums.
  std::vector<int> runs;
  for (int i = 0; i < rows; ++i)
    if (i == 0 || tokens[order[i]] != tokens[order[i - 1]]) runs.push_back(i);
  const std::size_t count = runs.size();
  runs.push_back(rows);
#pragma omp parallel
  {
    std::vector<float> gradient(static_cast<std::size_t>(C));
#pragma omp for schedule(dynamic, 64)
    for (std::size_t run = 0; run < count; ++run) {
      float* target = dwte + static_cast<std::int64_t>(tokens[order[runs[run]]]) * C;
      for (int i = runs[run]; i < runs[run + 1]; ++i) {
        const int r = order[i];
        const std::int64_t begin = static_cast<std::int64_t>(r) * C;
        std::copy_n(dx + begin, C, gradient.begin());
        if (dx0 != nullptr)
          for (int c = 0; c < C; ++c) gradient[static_cast<std::size_t>(c)] += dx0[begin + c];
        const float* output = x + begin;
        const float mean = cpu::dot(gradient.data(), output, C) / static_cast<float>(C);
        for (int c = 0; c < C; ++c)
          target[c] += rstd[r] * (gradient[static_cast<std::size_t>(c)] - output[c] * mean);
      }
    }
  }
}

}  // namespace spillway
