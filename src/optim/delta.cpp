#include "optim/delta.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::size_t kBlock = 64;  // elements that share one hash: 64 signs

// splitmix64 (Steele, Lea and Flood 2014): a good hash of a counter.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// A block goes to 64 neighbouring sums, from a pseudo-random place on.
void add_block(std::span<double> sketch, std::uint64_t number, std::span<const float> block) {
  const std::uint64_t signs = mix(2 * number);
  const std::size_t places = sketch.size() / kBlock;
  double* sums = sketch.data() + mix(2 * number + 1) % places * kBlock;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const auto value = static_cast<double>(block[i]);
    sums[i] += (signs >> i & 1) != 0 ? value : -value;
  }
}

double square_sum(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

}  // namespace

DeltaStatistics measure_delta(std::span<const float> delta, std::span<const std::int64_t> tensor_ends) {
  DeltaStatistics result;
  std::size_t first = 0;
  double sum = 0;
  for (const std::int64_t end : tensor_ends) {
    SPILLWAY_CHECK(end >= static_cast<std::int64_t>(first) && end <= static_cast<std::int64_t>(delta.size()));
    const double part = square_sum(delta.subspan(first, static_cast<std::size_t>(end) - first));
    result.tensor_norms.push_back(std::sqrt(part));
    sum += part;
    first = static_cast<std::size_t>(end);
  }
  sum += square_sum(delta.subspan(first));
  result.norm = std::sqrt(sum);
  // Squares of floats cannot overflow a double: a sum that is not finite comes from an element.
  if (!std::isfinite(sum)) return {false, 0, {}, {}};
  result.sketch.resize(kSketchSize);
  for (std::size_t at = 0; at < delta.size(); at += kBlock)
    add_block(result.sketch, at / kBlock, delta.subspan(at, std::min(kBlock, delta.size() - at)));
  return result;
}

double sketch_cosine(std::span<const double> a, std::span<const double> b) {
  SPILLWAY_CHECK(a.size() == b.size());
  double product = 0, a_square = 0, b_square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    a_square += a[i] * a[i];
    b_square += b[i] * b[i];
  }
  return a_square > 0 && b_square > 0 ? product / std::sqrt(a_square * b_square) : 0;
}

}  // namespace spillway
