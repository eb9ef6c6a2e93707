// Tiles of bf16 rows in shared memory and the tensor-core fragments that the attention kernels build from them.
//
// A tile is kRows × D, 16-byte chunks swizzled: chunk c of row r lies where chunk c ^ swizzle(r) would, so that the eight
// rows of an 8×8 matrix fall into different banks without padding.
#pragma once

#include <cmath>

#include "kernels/cuda/common.cuh"

namespace spillway::flash {

template <int D>
__device__ __forceinline__ std::uint32_t tile_offset(int row, int chunk) {
  constexpr int kChunks = D / kVector;  // per row
  const int swizzle = kChunks >= 8 ? row % 8 : row / 2 % 4;
  return static_cast<std::uint32_t>((row * kChunks + (chunk ^ swizzle)) * 16);
}

template <int D>
__host__ __device__ constexpr int tile_bytes(int rows) {
  return rows * D * static_cast<int>(sizeof(bf16));
}

// Starts copying rows first … first+kRows−1 of a (limit, stride) matrix into a tile; rows from `limit` on become zero.
template <int D, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(std::uint32_t tile, const bf16* matrix, std::int64_t stride,
                                          int first, int limit) {
  constexpr int kChunks = D / kVector;
  static_assert(kRows * kChunks % kThreads == 0);
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int index = threadIdx.x + i * kThreads;
    const int row = index / kChunks, chunk = index % kChunks;
    const bool valid = first + row < limit;
    ptx::copy_async_16(tile + tile_offset<D>(row, chunk),
                       matrix + (valid ? (first + row) * stride + chunk * kVector : 0), valid);
  }
}

// A operand (16 rows × 16 channels) of a tile: rows row … row+15, channels 16·step … .
template <int D>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], std::uint32_t tile, int row, int step) {
  const int lane = threadIdx.x % kWarp;
  ptx::load_matrix_x4(a, tile + tile_offset<D>(row + lane % 16, 2 * step + lane / 16));
}

// Two B operands for products over channels, x·tileᵀ: (b[0], b[1]) for tile rows row … row+7, (b[2], b[3]) for the next 8.
template <int D>
__device__ __forceinline__ void load_b(std::uint32_t (&b)[4], std::uint32_t tile, int row, int step) {
  const int lane = threadIdx.x % kWarp;
  ptx::load_matrix_x4(b, tile + tile_offset<D>(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}

// Two B operands for products over rows, x·tile: tile rows row … row+15; (b[0], b[1]) for channels 16·pair … +7,
// (b[2], b[3]) for the next 8.
template <int D>
__device__ __forceinline__ void load_b_transposed(std::uint32_t (&b)[4], std::uint32_t tile, int row,
                                                  int pair) {
  const int lane = threadIdx.x % kWarp;
  ptx::load_matrix_x4_transposed(b, tile + tile_offset<D>(row + lane % 16, 2 * pair + lane / 16));
}

// The A operand made of two neighbouring accumulators (16 × 8 each): rounds to bf16.
__device__ __forceinline__ void accumulators_to_a(std::uint32_t (&a)[4], const float (&left)[4],
                                                  const float (&right)[4]) {
  a[0] = ptx::pack_bf16(left[0], left[1]);
  a[1] = ptx::pack_bf16(left[2], left[3]);
  a[2] = ptx::pack_bf16(right[0], right[1]);
  a[3] = ptx::pack_bf16(right[2], right[3]);
}

// Row (of 16) and column (of 8) of an accumulator's element i in this lane.
__device__ __forceinline__ int accumulator_row(int i) { return threadIdx.x % kWarp / 4 + i / 2 * 8; }
__device__ __forceinline__ int accumulator_column(int i) { return threadIdx.x % 4 * 2 + i % 2; }

// Writes the warp's accumulators (16·kTiles rows × D) as bf16 rows first + row, through `tile` in shared memory so that
// each row leaves in whole 16-byte chunks. Touches rows row … row+16·kTiles−1 of the tile and rows below `limit` of out.
template <int D, int kTiles>
__device__ __forceinline__ void store_rows(bf16* out, std::int64_t stride,
                                           const float (&sums)[kTiles][D / 8][4], char* tile, int row,
                                           int first, int limit) {
  constexpr int kChunks = D / kVector;
  const int lane = threadIdx.x % kWarp;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t place =
            tile_offset<D>(row + 16 * m + accumulator_row(2 * half), n) + lane % 4 * 4;
        *reinterpret_cast<std::uint32_t*>(tile + place) =
            ptx::pack_bf16(sums[m][n][2 * half], sums[m][n][2 * half + 1]);
      }
  __syncwarp();
#pragma unroll 4
  for (int index = lane; index < 16 * kTiles * kChunks; index += kWarp) {
    const int local = row + index / kChunks, chunk = index % kChunks;
    if (first + local < limit)
      *reinterpret_cast<uint4*>(out + (first + local) * stride + chunk * kVector) =
          *reinterpret_cast<const uint4*>(tile + tile_offset<D>(local, chunk));
  }
}

// 1/√D, times log2(e): exp(score/√D) = 2^(score·scale_log2).
inline float scale_log2(int D) { return 1.4426950408889634f / std::sqrt(static_cast<float>(D)); }

// One (head, block of rows) per CTA. Blocks of one group of heads are neighbours, so that the heads' keys and values
// stay in the L2 cache; within a group those with most work come first, so that short ones fill the end.
struct HeadBlock {
  int head;   // of B·H
  int block;  // 0: least work
};
inline constexpr int kHeadGroup = 16;

__device__ __forceinline__ HeadBlock head_block(int heads, int blocks) {
  const int group = blockIdx.x / (kHeadGroup * blocks), rest = blockIdx.x % (kHeadGroup * blocks);
  const int group_heads = min(kHeadGroup, heads - group * kHeadGroup);
  return {group * kHeadGroup + rest % group_heads, blocks - 1 - rest / group_heads};
}

}  // namespace spillway::flash
