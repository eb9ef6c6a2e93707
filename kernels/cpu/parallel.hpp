// Fixed-order sums: the result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace spillway::cpu {

// Elements that one thread sums on its own; partial sums are added in order afterwards.
inline constexpr std::int64_t kSumChunk = 1 << 14;

// Σ value(i) for i in [0, n), in double.
template <class Value>
double chunked_sum(std::int64_t n, Value value) {
  const std::int64_t chunks = (n + kSumChunk - 1) / kSumChunk;
  std::vector<double> partial(static_cast<std::size_t>(chunks));
#pragma omp parallel for schedule(static)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t end = std::min(n, (chunk + 1) * kSumChunk);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = chunk * kSumChunk; i < end; ++i) sum += value(i);
    partial[static_cast<std::size_t>(chunk)] = sum;
  }
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

// Σ a[i]·b[i] over one row.
inline float dot(const float* a, const float* b, std::int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace spillway::cpu
