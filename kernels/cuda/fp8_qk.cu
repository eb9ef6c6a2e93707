// The gradient of the fused projection's output, cast to FP8 as it is made: backward of RoPE and QK norm on q and k, v as it
// is. A tile of 128 columns holds whole heads; D/8 neighbouring lanes share one head of one row, lane l its channels 8l … 8l+7,
// whose partners in the rotation, D/2 channels on, are D/16 lanes away.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/head_dim.hpp"

namespace spillway {

namespace {

struct RopeTablesOnDevice {
  const float* cosine;  // (T, D/2)
  const float* sine;
};

// d: this lane's part of the gradient of a normalized head y; becomes the gradient before norm and rotation. All lanes call it.
template <int D>
__device__ __forceinline__ void through_norm_and_rope(float (&d)[kVector], const float (&y)[kVector],
                                                      float rstd, const float (&cos)[kVector],
                                                      const float (&sin)[kVector], bool lower) {
  float dot = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) dot += d[j] * y[j];
  const float mean = lane_sum<D / kVector>(dot) / D;
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    const float own = rstd * (d[j] - y[j] * mean);
    const float partner = __shfl_xor_sync(0xffffffffu, own, D / 16);
    d[j] = lower ? own * cos[j] - partner * sin[j] : partner * sin[j] + own * cos[j];
  }
}

template <int D, Fp8Format kFormat>
__global__ void __launch_bounds__(kTileThreads)
    fp8_rope_qk_norm_backward_kernel(Fp8Matrix out, const bf16* __restrict__ dqkv,
                                     const bf16* __restrict__ qkv, const float* __restrict__ rstd,
                                     RopeTablesOnDevice tables, int rows, int T, int H) {
  __shared__ __align__(16) TransposedTile tile;
  const int cols = 3 * H * D, first_row = blockIdx.y * kTile, first_col = blockIdx.x * kTile;
  const int row = first_row + kPatch * (threadIdx.x / kPatches);
  const int col = first_col + kPatch * (threadIdx.x % kPatches);
  const bool inside = row < rows && col < cols, rotated = inside && col < 2 * H * D;
  const int channel = col % D, j = channel % (D / 2);
  const bool lower = channel < D / 2;
  const float factor = fp8_factor<kFormat>(out.scale->amax);
  Fp8Patch patch = {};
#pragma unroll
  for (int i = 0; i < kPatch; ++i) {
    float d[kVector] = {}, y[kVector] = {}, cos[kVector] = {}, sin[kVector] = {}, r = 0;
    const std::int64_t at = static_cast<std::int64_t>(row + i) * cols + col;
    if (inside) unpack(d, *vectors(dqkv + at));
    if (rotated) {
      const int t = (row + i) % T;
      unpack(y, *vectors(qkv + at));
      load_floats(cos, tables.cosine + t * (D / 2) + j);
      load_floats(sin, tables.sine + t * (D / 2) + j);
      r = rstd[static_cast<std::int64_t>(row + i) * 2 * H + col / D];
    }
    float v[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) v[k] = d[k];
    through_norm_and_rope<D>(v, y, r, cos, sin, lower);
#pragma unroll
    for (int k = 0; k < kVector; ++k) v[k] = (rotated ? v[k] : d[k]) * factor;
    patch[i] = pack_fp8<kFormat>(v);
  }
  store_tile(out, tile, patch, first_row, first_col, rows, cols);
  if (first_of_grid()) out.scale->inverse = 1.0f / factor;
}

}  // namespace

void fp8_rope_qk_norm_backward(Cuda& device, const Fp8Matrix& out, const bf16* dqkv, const bf16* qkv,
                               const float* rstd, const float* cosine, const float* sine, int B, int T, int H,
                               int D) {
  const int rows = B * T;
  check_fp8_sizes(rows, 3 * H * D);
  const dim3 tiles(ceil_div(3 * H * D, kTile), ceil_div(rows, kTile));
  with_head_dim(D, [&](auto dim) {
    const auto kernel = out.format == Fp8Format::e4m3
                            ? fp8_rope_qk_norm_backward_kernel<dim(), Fp8Format::e4m3>
                            : fp8_rope_qk_norm_backward_kernel<dim(), Fp8Format::e5m2>;
    kernel<<<tiles, kTileThreads, 0, device.stream()>>>(out, dqkv, qkv, rstd, {cosine, sine}, rows, T, H);
  });
  LAUNCH_CHECK();
}

}  // namespace spillway
