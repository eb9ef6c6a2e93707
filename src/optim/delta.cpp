#include "optim/delta.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

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

// A piece of the vector that lies in one tensor. Sums are made piece by piece and added in order, so that they do not
// depend on the number of threads.
struct Piece {
  std::size_t tensor, begin, end;
};
constexpr std::size_t kPiece = std::size_t{1} << 20;

std::vector<Piece> divide(std::size_t size, std::span<const std::int64_t> tensor_ends) {
  std::vector<Piece> pieces;
  std::size_t begin = 0;
  for (std::size_t tensor = 0; tensor <= tensor_ends.size(); ++tensor) {
    const bool rest = tensor == tensor_ends.size();
    const auto end = rest ? size : static_cast<std::size_t>(tensor_ends[tensor]);
    SPILLWAY_CHECK(end >= begin && end <= size);
    for (; begin < end; begin = std::min(begin + kPiece, end))
      pieces.push_back({tensor, begin, std::min(begin + kPiece, end)});
  }
  return pieces;
}

double square_sum(std::span<const float> values) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

std::vector<double> sketch_of(std::span<const float> delta) {
  const std::size_t pieces = (delta.size() + kPiece - 1) / kPiece;
  std::vector<std::vector<double>> parts(pieces, std::vector<double>(kSketchSize));
#pragma omp parallel for schedule(dynamic) if (pieces > 1)
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const std::size_t end = std::min((piece + 1) * kPiece, delta.size());
    for (std::size_t at = piece * kPiece; at < end; at += kBlock)
      add_block(parts[piece], at / kBlock, delta.subspan(at, std::min(kBlock, end - at)));
  }
  std::vector<double> sketch(kSketchSize);
  for (const std::vector<double>& part : parts)
    for (std::size_t i = 0; i < sketch.size(); ++i) sketch[i] += part[i];
  return sketch;
}

}  // namespace

DeltaStatistics measure_delta(std::span<const float> delta, std::span<const std::int64_t> tensor_ends) {
  const std::vector<Piece> pieces = divide(delta.size(), tensor_ends);
  std::vector<double> sums(pieces.size());
#pragma omp parallel for schedule(dynamic) if (delta.size() > kPiece)
  for (std::size_t i = 0; i < pieces.size(); ++i)
    sums[i] = square_sum(delta.subspan(pieces[i].begin, pieces[i].end - pieces[i].begin));
  std::vector<double> squares(tensor_ends.size() + 1);  // the last: what belongs to no tensor
  for (std::size_t i = 0; i < pieces.size(); ++i) squares[pieces[i].tensor] += sums[i];
  const double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  // Squares of floats cannot overflow a double: a sum that is not finite comes from an element.
  if (!std::isfinite(sum)) return {false, 0, {}, {}};
  DeltaStatistics result;
  result.norm = std::sqrt(sum);
  squares.pop_back();
  for (const double square : squares) result.tensor_norms.push_back(std::sqrt(square));
  result.sketch = sketch_of(delta);
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
