// Sums in fixed order, in double inside.
#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"

namespace spillway {

void sum(Cpu&, float* total, const float* values, std::int64_t n, bool accumulate) {
  const double result = cpu::chunked_sum(n, [values](std::int64_t i) { return double{values[i]}; });
  *total = static_cast<float>((accumulate ? *total : 0.0) + result);
}

void sum_of_squares(Cpu&, float* total, const float* values, std::int64_t n, bool accumulate) {
  const double result =
      cpu::chunked_sum(n, [values](std::int64_t i) { return double{values[i]} * double{values[i]}; });
  *total = static_cast<float>((accumulate ? *total : 0.0) + result);
}

void scale(Cpu&, float* values, float factor, std::int64_t n) {
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) values[i] *= factor;
}

void add(Cpu&, float* values, const float* addends, std::int64_t n) {
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) values[i] += addends[i];
}

}  // namespace spillway
