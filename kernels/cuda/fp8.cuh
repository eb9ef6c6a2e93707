// What the kernels that write FP8 share: scales, conversions, and a tile that leaves the chip both as it is and transposed.
#pragma once

#include <cuda_fp8.h>

#include "kernels/cuda/common.cuh"
#include "kernels/fp8.hpp"

namespace spillway {

// Tile of 128 × 128, 256 threads: thread (tx, ty) has rows 8·ty … 8·ty+7 and columns 8·tx … 8·tx+7, so that rows
// are read, and both copies written, 128 bytes or more in a stretch.
inline constexpr int kTile = 128;
inline constexpr int kPatch = 8;                 // rows and columns of a thread
inline constexpr int kPatches = kTile / kPatch;  // along each side
inline constexpr int kTileThreads = kPatches * kPatches;

// 2^s for a largest magnitude of `amax`: 2^s·amax is at most 448 = 1.75·2^8 (57,344 = 1.75·2^15) over the room asked for.
// 1 where amax is 0 or not finite, and s within ±100, so that 2^s and 2^−s are normal numbers.
template <Fp8Format kFormat>
__device__ __forceinline__ float fp8_factor(float amax) {
  const std::uint32_t bits = __float_as_uint(amax);
  if (bits == 0 || bits >= 0x7f800000u) return 1.0f;
  const int exponent = static_cast<int>(bits >> 23) - 127;
  const int above = (bits & 0x7fffffu) > 0x600000u ? 1 : 0;  // mantissa beyond 1.75
  const int most = kFormat == Fp8Format::e4m3 ? 8 : 15;
  const int s = max(-100, min(100, most - exponent - above - kFp8RoomLog2[static_cast<int>(kFormat)]));
  return __uint_as_float(static_cast<std::uint32_t>(s + 127) << 23);
}

// Four neighbours in one word, the first in the lowest byte. An infinite value becomes NaN: saturating it would hide it.
template <Fp8Format kFormat>
__device__ __forceinline__ std::uint32_t pack_fp8(float a, float b, float c, float d) {
  constexpr auto kInterpretation = kFormat == Fp8Format::e4m3 ? __NV_E4M3 : __NV_E5M2;
  const auto visible = [](float value) { return fmaf(value, 0.0f, value); };
  const std::uint32_t low =
      __nv_cvt_float2_to_fp8x2(make_float2(visible(a), visible(b)), __NV_SATFINITE, kInterpretation);
  const std::uint32_t high =
      __nv_cvt_float2_to_fp8x2(make_float2(visible(c), visible(d)), __NV_SATFINITE, kInterpretation);
  return low | high << 16;
}
template <Fp8Format kFormat>
__device__ __forceinline__ uint2 pack_fp8(const float (&v)[kVector]) {
  return make_uint2(pack_fp8<kFormat>(v[0], v[1], v[2], v[3]), pack_fp8<kFormat>(v[4], v[5], v[6], v[7]));
}

// Bytes of four words as the four words of their columns: out[j] has byte j of a, b, c, d.
__device__ __forceinline__ void transpose_bytes(std::uint32_t (&out)[4], std::uint32_t a, std::uint32_t b,
                                                std::uint32_t c, std::uint32_t d) {
  const std::uint32_t ab_low = __byte_perm(a, b, 0x5140), ab_high = __byte_perm(a, b, 0x7362);
  const std::uint32_t cd_low = __byte_perm(c, d, 0x5140), cd_high = __byte_perm(c, d, 0x7362);
  out[0] = __byte_perm(ab_low, cd_low, 0x5410);
  out[1] = __byte_perm(ab_low, cd_low, 0x7632);
  out[2] = __byte_perm(ab_high, cd_high, 0x5410);
  out[3] = __byte_perm(ab_high, cd_high, 0x7632);
}

// The tile's transposed copy on its way out: for each of 128 columns 32 words of 4 rows. Pairs of words are swizzled by the
// column's patch, so that the threads of half a warp meet all 32 banks.
struct TransposedTile {
  std::uint32_t words[kTile * kTile / 4];

  __device__ __forceinline__ uint2& pair(int column, int index) {
    return reinterpret_cast<uint2*>(words)[column * (kTile / 8) + (index ^ (column / kPatch))];
  }
};

// One thread's patch in FP8, a row of 8 in each pair of words.
using Fp8Patch = uint2[kPatch];

// Writes a tile whose corner is (first_row, first_col) of a (rows, cols) matrix. All threads of the block call it; patches
// outside the matrix are left out.
__device__ __forceinline__ void store_tile(const Fp8Matrix& out, TransposedTile& tile, const Fp8Patch& patch,
                                           int first_row, int first_col, int rows, int cols) {
  const int tx = threadIdx.x % kPatches, ty = threadIdx.x / kPatches;
  const int row = first_row + kPatch * ty, col = first_col + kPatch * tx;
  if (row < rows && col < cols) {
#pragma unroll
    for (int i = 0; i < kPatch; ++i)
      *reinterpret_cast<uint2*>(out.direct + static_cast<std::int64_t>(row + i) * cols + col) = patch[i];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const auto word = [&](int i) { return half == 0 ? patch[i].x : patch[i].y; };
    std::uint32_t upper[4], lower[4];
    transpose_bytes(upper, word(0), word(1), word(2), word(3));
    transpose_bytes(lower, word(4), word(5), word(6), word(7));
#pragma unroll
    for (int j = 0; j < 4; ++j) tile.pair(kPatch * tx + 4 * half + j, ty) = make_uint2(upper[j], lower[j]);
  }
  __syncthreads();
  constexpr int kPieces = kTile / 16;  // of 16 rows, in a column
#pragma unroll
  for (int i = threadIdx.x; i < kTile * kPieces; i += kTileThreads) {
    const int column = i / kPieces, piece = i % kPieces;
    if (first_col + column >= cols || first_row + 16 * piece >= rows) continue;
    // Odd columns read their halves in the other order: two columns lie in the same banks.
    const int odd = column & 1;
    const uint2 one = tile.pair(column, 2 * piece + odd), other = tile.pair(column, 2 * piece + 1 - odd);
    const uint2 low = odd ? other : one, high = odd ? one : other;
    *reinterpret_cast<uint4*>(out.transposed + static_cast<std::int64_t>(first_col + column) * rows +
                              first_row + 16 * piece) = make_uint4(low.x, low.y, high.x, high.y);
  }
}

// Throws std::runtime_error for a matrix that FP8 products cannot take.
inline void check_fp8_sizes(int rows, int cols) {
  SHAPE_CHECK(rows > 0 && cols > 0 && rows % 16 == 0 && cols % 16 == 0,
              "sizes of FP8 matrices must be multiples of 16");
}

// For the one thread of a grid that leaves a matrix's scale behind for the products that read it.
__device__ __forceinline__ bool first_of_grid() {
  return blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0;
}

}  // namespace spillway
