// Kernels that give each row of (rows, C) bf16 to one warp: lane l holds the 16-byte vectors l, l + 32, l + 64, … of it.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/cuda/common.cuh"

namespace spillway {

inline constexpr int kRowsPerBlock = 8;
inline constexpr int kRowThreads = kRowsPerBlock * kWarp;

__device__ __forceinline__ int row_of_warp() { return blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp; }

// The i-th vector of this lane, counted in vectors from the row's start.
__device__ __forceinline__ int column_of_lane(int i) { return threadIdx.x % kWarp + i * kWarp; }

__device__ __forceinline__ float dot_product(const uint4& a, const uint4& b) {
  float left[kVector], right[kVector], sum = 0;
  unpack(left, a);
  unpack(right, b);
#pragma unroll
  for (int j = 0; j < kVector; ++j) sum += left[j] * right[j];
  return sum;
}

// Up to so many vectors per lane, with_row_vectors() gives no more than the row fills: each lane's, but for the last, exist.
inline constexpr int kExactVectors = 6;

// Whether this lane's i-th vector lies in a row of `count` vectors.
template <int kVectors>
__device__ __forceinline__ bool inside_row(int i, int count) {
  return (kVectors <= kExactVectors && i + 1 < kVectors) || column_of_lane(i) < count;
}

// This lane's i-th vector of the row from `row` on; zeros beyond its end. Without a branch, and to be called for all vectors
// of a row before the first is used: where a `break` stood between a vector's load and the next, one load at a time was
// under way per warp, 24 KiB per multiprocessor, and norm forward ran at 83 % of the copy's rate (2026-11-28, H200).
template <int kVectors>
__device__ __forceinline__ uint4 row_vector(const uint4* row, int i, int count) {
  return inside_row<kVectors>(i, count) ? row[column_of_lane(i)] : make_uint4(0, 0, 0, 0);
}

// Calls `launch` with the smallest supported number of vectors per lane (an integral_constant) that covers C channels.
// Throws std::runtime_error where C is not a multiple of 8 or above 4096.
template <class Launch>
void with_row_vectors(int C, const Launch& launch) {
  SHAPE_CHECK(C > 0 && C % kVector == 0, "the width must be a multiple of 8");
  switch (ceil_div(C, kVector * kWarp)) {
    case 1:
      return launch(std::integral_constant<int, 1>());
    case 2:
      return launch(std::integral_constant<int, 2>());
    case 3:
      return launch(std::integral_constant<int, 3>());
    case 4:
      return launch(std::integral_constant<int, 4>());
    case 5:
      return launch(std::integral_constant<int, 5>());
    case 6:
      return launch(std::integral_constant<int, 6>());
    case 7:
    case 8:
      return launch(std::integral_constant<int, 8>());
    default:
      SHAPE_CHECK(C <= 16 * kVector * kWarp, "the width must be at most 4096");
      return launch(std::integral_constant<int, 16>());
  }
}

}  // namespace spillway
