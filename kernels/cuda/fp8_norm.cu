// RMS norm with the mix of the residual stream, whose output leaves in bf16 and, as it is and transposed, in FP8. As in norm.cu
// one warp holds a row in registers; a block has 32 rows, which meet in shared memory before they are written transposed, 32
// bytes, a whole sector of memory, in a stretch.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kBlockRows = 32;
constexpr int kRowsPerWarp = kBlockRows / kRowsPerBlock;  // one after the other

// 32 rows of C FP8 elements. Rows start an odd number of words apart, so that the two halves of a warp that read 16 rows each
// meet different banks.
struct RowTile {
  std::uint32_t* words;
  int stride;  // words

  __device__ RowTile(std::uint32_t* shared, int C) : words(shared), stride(C / 4 + 1) {}
  static std::size_t bytes(int C) { return kBlockRows * (static_cast<std::size_t>(C) / 4 + 1) * 4; }

  __device__ __forceinline__ void put(int row, int vector, uint2 packed) {
    words[row * stride + 2 * vector] = packed.x;
    words[row * stride + 2 * vector + 1] = packed.y;
  }

  // All threads, after a barrier. Each takes 4 columns of 16 rows at a time.
  __device__ __forceinline__ void store_transposed(fp8* transposed, int first_row, int rows, int C) const {
    for (int i = threadIdx.x; i < C / 4 * 2; i += kRowThreads) {
      const int quad = i / 2, top = 16 * (i % 2);
      if (first_row + top >= rows) continue;
      std::uint32_t columns[4][4];  // [column][4 rows]
#pragma unroll
      for (int group = 0; group < 4; ++group) {
        const std::uint32_t* at = words + (top + 4 * group) * stride + quad;
        std::uint32_t four[4];
        transpose_bytes(four, at[0], at[stride], at[2 * stride], at[3 * stride]);
#pragma unroll
        for (int column = 0; column < 4; ++column) columns[column][group] = four[column];
      }
#pragma unroll
      for (int column = 0; column < 4; ++column)
        *reinterpret_cast<uint4*>(transposed + static_cast<std::int64_t>(4 * quad + column) * rows +
                                  first_row + top) =
            make_uint4(columns[column][0], columns[column][1], columns[column][2], columns[column][3]);
    }
  }
};

// The row's FP8 copy, to memory and to the tile: values of one vector, already scaled.
template <Fp8Format kFormat>
__device__ __forceinline__ void store_fp8(fp8* direct, RowTile& tile, std::int64_t vector, int tile_row,
                                          int column, const float (&v)[kVector]) {
  const uint2 packed = pack_fp8<kFormat>(v);
  reinterpret_cast<uint2*>(direct)[vector] = packed;
  tile.put(tile_row, column, packed);
}

template <int kVectors, bool kMix>
__global__ void __launch_bounds__(kRowThreads)
    fp8_mix_norm_forward_kernel(Fp8Matrix out, uint4* __restrict__ h, float* __restrict__ rstd,
                                uint4* __restrict__ x, const uint4* __restrict__ x0, const float* lambda_r,
                                const float* lambda_0, int rows, int C) {
  extern __shared__ std::uint32_t shared[];
  RowTile tile(shared, C);
  const int first_row = blockIdx.x * kBlockRows;
  const float mix_r = kMix ? *lambda_r : 1.0f, mix_0 = kMix ? *lambda_0 : 0.0f;
  const float factor = fp8_factor<Fp8Format::e4m3>(out.scale->amax);
  for (int pass = 0; pass < kRowsPerWarp; ++pass) {
    const int tile_row = pass * kRowsPerBlock + threadIdx.x / kWarp, row = first_row + tile_row;
    if (row >= rows) break;
    const std::int64_t base = static_cast<std::int64_t>(row) * (C / kVector);
    uint4 kept[kVectors];
    const float r = mix_row<kVectors, kMix>(kept, x, x0, mix_r, mix_0, base, C);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int column = column_of_lane(i);
      if (column >= C / kVector) break;
      float values[kVector];
      unpack(values, kept[i]);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= r;
      h[base + column] = pack(values);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= factor;
      store_fp8<Fp8Format::e4m3>(out.direct, tile, base + column, tile_row, column, values);
    }
    if (threadIdx.x % kWarp == 0) rstd[row] = r;
  }
  __syncthreads();
  tile.store_transposed(out.transposed, first_row, rows, C);
  if (first_of_grid()) out.scale->inverse = 1.0f / factor;
}

// partial: <g, x0> and <g, h/rstd> of each block's rows, as add_lambda_gradients takes them.
template <int kVectors, bool kMix>
__global__ void __launch_bounds__(kRowThreads, kBackwardBlocks<kVectors, kMix>)
    fp8_mix_norm_backward_kernel(Fp8Matrix out, uint4* __restrict__ dx, uint4* __restrict__ dx0,
                                 float* __restrict__ partial, const uint4* __restrict__ dh,
                                 const uint4* __restrict__ h, const float* __restrict__ rstd,
                                 const uint4* __restrict__ x0, const float* lambda_r, const float* lambda_0,
                                 int rows, int C) {
  extern __shared__ std::uint32_t shared[];
  RowTile tile(shared, C);
  const int first_row = blockIdx.x * kBlockRows;
  const float mix_r = kMix ? *lambda_r : 1.0f, mix_0 = kMix ? *lambda_0 : 0.0f;
  const float factor = fp8_factor<Fp8Format::e5m2>(out.scale->amax);
  float sum_first = 0, sum_mixed = 0;
  for (int pass = 0; pass < kRowsPerWarp; ++pass) {
    const int tile_row = pass * kRowsPerBlock + threadIdx.x / kWarp, row = first_row + tile_row;
    if (row >= rows) break;
    const std::int64_t base = static_cast<std::int64_t>(row) * (C / kVector);
    const float r = rstd[row];
    LambdaDots dots = {sum_first, 0};
    norm_backward<kVectors, kMix>(dx + base, dx0 + base, dh + base, h + base, x0 + base, r, mix_r, mix_0, C,
                                  dots, [&](int i, float(&g)[kVector]) {
#pragma unroll
                                    for (int j = 0; j < kVector; ++j) g[j] *= factor;
                                    const int column = column_of_lane(i);
                                    store_fp8<Fp8Format::e5m2>(out.direct, tile, base + column, tile_row,
                                                               column, g);
                                  });
    sum_first = dots.first;
    sum_mixed += dots.mixed / r;
  }
  __syncthreads();
  tile.store_transposed(out.transposed, first_row, rows, C);
  if (first_of_grid()) out.scale->inverse = 1.0f / factor;
  if constexpr (kMix) {
    __shared__ float sums[2][kWarp];
    const float first = block_sum(sum_first, sums[0]), mixed = block_sum(sum_mixed, sums[1]);
    if (threadIdx.x == 0) {
      partial[blockIdx.x] = first;
      partial[gridDim.x + blockIdx.x] = mixed;
    }
  }
}

// Above 48 KiB a kernel's shared memory has to be asked for.
template <class Kernel>
void allow_shared(Kernel kernel, std::size_t bytes) {
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

}  // namespace

void fp8_mix_norm_forward(Cuda& device, const Fp8Matrix& out, bf16* h, float* rstd, bf16* x, const bf16* x0,
                          const float* lambda_r, const float* lambda_0, int rows, int C) {
  check_fp8_sizes(rows, C);
  SHAPE_CHECK(out.format == Fp8Format::e4m3, "the norm's output is written as e4m3");
  const std::size_t bytes = RowTile::bytes(C);
  with_row_vectors(C, [&](auto count) {
    const auto kernel = lambda_r != nullptr ? fp8_mix_norm_forward_kernel<count(), true>
                                            : fp8_mix_norm_forward_kernel<count(), false>;
    allow_shared(kernel, bytes);
    kernel<<<ceil_div(rows, kBlockRows), kRowThreads, bytes, device.stream()>>>(
        out, vectors(h), rstd, vectors(x), vectors(x0), lambda_r, lambda_0, rows, C);
  });
  LAUNCH_CHECK();
}

void fp8_mix_norm_backward(Cuda& device, const Fp8Matrix& out, bf16* dx, bf16* dx0, float* dlambda_r,
                           float* dlambda_0, const bf16* dh, const bf16* h, const float* rstd, const bf16* x0,
                           const float* lambda_r, const float* lambda_0, float* workspace, int rows, int C) {
  check_fp8_sizes(rows, C);
  SHAPE_CHECK(out.format == Fp8Format::e5m2, "the gradient of the residual stream is written as e5m2");
  const std::size_t bytes = RowTile::bytes(C);
  const int blocks = ceil_div(rows, kBlockRows);
  with_row_vectors(C, [&](auto count) {
    const auto kernel = lambda_r != nullptr ? fp8_mix_norm_backward_kernel<count(), true>
                                            : fp8_mix_norm_backward_kernel<count(), false>;
    allow_shared(kernel, bytes);
    kernel<<<blocks, kRowThreads, bytes, device.stream()>>>(out, vectors(dx), vectors(dx0), workspace,
                                                            vectors(dh), vectors(h), rstd, vectors(x0),
                                                            lambda_r, lambda_0, rows, C);
  });
  LAUNCH_CHECK();
  if (lambda_r != nullptr)
    add_lambda_gradients(device, dlambda_r, dlambda_0, workspace, blocks, lambda_r, lambda_0);
}

}  // namespace spillway
