// RMS norm fused with the mix of the residual stream. One warp per row; the row stays in registers between the sum of
// squares and the output, so that each tensor crosses memory once.
#include "kernels/cuda/norm.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

template <int kVectors, bool kMix>
__global__ void __launch_bounds__(kRowThreads)
    mix_norm_forward_kernel(uint4* __restrict__ h, float* __restrict__ rstd, uint4* __restrict__ x,
                            const uint4* __restrict__ x0, const float* lambda_r, const float* lambda_0,
                            int rows, int C) {
  const int row = row_of_warp();
  if (row >= rows) return;
  const std::int64_t base = static_cast<std::int64_t>(row) * (C / kVector);
  const float mix_r = kMix ? *lambda_r : 1.0f, mix_0 = kMix ? *lambda_0 : 0.0f;
  uint4 kept[kVectors];
  const float r = mix_row<kVectors, kMix>(kept, x, x0, mix_r, mix_0, base, C);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (!inside_row<kVectors>(i, C / kVector)) break;
    float values[kVector];
    unpack(values, kept[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= r;
    h[base + column_of_lane(i)] = pack(values);
  }
  if (threadIdx.x % kWarp == 0) rstd[row] = r;
}

// partial[block] and partial[gridDim.x + block]: <g, x0> and <g, h/rstd> of the block's rows.
template <int kVectors, bool kMix>
__global__ void __launch_bounds__(kRowThreads, kBackwardBlocks<kVectors, kMix>)
    mix_norm_backward_kernel(uint4* __restrict__ dx, uint4* __restrict__ dx0, float* __restrict__ partial,
                             const uint4* __restrict__ dh, const uint4* __restrict__ h,
                             const float* __restrict__ rstd, const uint4* __restrict__ x0,
                             const float* lambda_r, const float* lambda_0, int rows, int C) {
  const int row = row_of_warp();
  const bool active = row < rows;
  const std::int64_t base = static_cast<std::int64_t>(row) * (C / kVector);
  const float mix_r = kMix ? *lambda_r : 1.0f, mix_0 = kMix ? *lambda_0 : 0.0f;
  const float r = active ? rstd[row] : 1.0f;
  LambdaDots dots = {0, 0};
  if (active)
    norm_backward<kVectors, kMix>(dx + base, dx0 + base, dh + base, h + base, x0 + base, r, mix_r, mix_0, C,
                                  dots, [](int, float(&)[kVector]) {});
  if constexpr (kMix) {
    __shared__ float sums[2][kWarp];
    const float first = block_sum(dots.first, sums[0]), mixed = block_sum(dots.mixed / r, sums[1]);
    if (threadIdx.x == 0) {
      partial[blockIdx.x] = first;
      partial[gridDim.x + blockIdx.x] = mixed;
    }
  }
}

// dλ0 += Σ<g, x0> ;  dλr += (Σ<g, h/rstd> − λ0·Σ<g, x0>)/λr, in one block and a fixed order.
__global__ void __launch_bounds__(kRowThreads)
    lambda_gradients_kernel(float* dlambda_r, float* dlambda_0, const float* __restrict__ partial, int blocks,
                            const float* lambda_r, const float* lambda_0) {
  __shared__ float sums[2][kWarp];
  float first = 0, mixed = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) {
    first += partial[i];
    mixed += partial[blocks + i];
  }
  first = block_sum(first, sums[0]);
  mixed = block_sum(mixed, sums[1]);
  if (threadIdx.x == 0) {
    *dlambda_0 += first;
    *dlambda_r += (mixed - *lambda_0 * first) / *lambda_r;
  }
}

}  // namespace

void add_lambda_gradients(Cuda& device, float* dlambda_r, float* dlambda_0, const float* partial, int blocks,
                          const float* lambda_r, const float* lambda_0) {
  lambda_gradients_kernel<<<1, kRowThreads, 0, device.stream()>>>(dlambda_r, dlambda_0, partial, blocks,
                                                                  lambda_r, lambda_0);
  LAUNCH_CHECK();
}

void mix_norm_forward(Cuda& device, bf16* h, float* rstd, bf16* x, const bf16* x0, const float* lambda_r,
                      const float* lambda_0, int rows, int C) {
  const int blocks = ceil_div(rows, kRowsPerBlock);
  with_row_vectors(C, [&](auto count) {
    const auto kernel = lambda_r != nullptr ? mix_norm_forward_kernel<count(), true>
                                            : mix_norm_forward_kernel<count(), false>;
    kernel<<<blocks, kRowThreads, 0, device.stream()>>>(vectors(h), rstd, vectors(x), vectors(x0), lambda_r,
                                                        lambda_0, rows, C);
  });
  LAUNCH_CHECK();
}

void mix_norm_backward(Cuda& device, bf16* dx, bf16* dx0, float* dlambda_r, float* dlambda_0, const bf16* dh,
                       const bf16* h, const float* rstd, const bf16* x0, const float* lambda_r,
                       const float* lambda_0, float* workspace, int rows, int C) {
  const int blocks = ceil_div(rows, kRowsPerBlock);
  with_row_vectors(C, [&](auto count) {
    const auto kernel = lambda_r != nullptr ? mix_norm_backward_kernel<count(), true>
                                            : mix_norm_backward_kernel<count(), false>;
    kernel<<<blocks, kRowThreads, 0, device.stream()>>>(vectors(dx), vectors(dx0), workspace, vectors(dh),
                                                        vectors(h), rstd, vectors(x0), lambda_r, lambda_0,
                                                        rows, C);
  });
  LAUNCH_CHECK();
  if (lambda_r != nullptr)
    add_lambda_gradients(device, dlambda_r, dlambda_0, workspace, blocks, lambda_r, lambda_0);
}

}  // namespace spillway
