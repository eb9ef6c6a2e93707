// Sums in a fixed order: kBlocks blocks sum every kBlocks-th stretch, then one block sums their results.
#include "kernels/cuda/common.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 512;
constexpr int kBlocks = 1024;  // fixed, not the GPU's size: the order must not depend on the machine

template <bool kSquare>
__global__ void __launch_bounds__(kThreads)
    partial_sums_kernel(float* __restrict__ partial, const float* __restrict__ values, std::int64_t n,
                        bool aligned) {
  __shared__ float shared[kWarp];
  const std::int64_t stride = static_cast<std::int64_t>(kBlocks) * kThreads;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const auto term = [](float value) { return kSquare ? value * value : value; };
  const std::int64_t quads = aligned ? n / 4 : 0;
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (std::int64_t i = first; i < quads; i += stride) {
    const float4 quad = reinterpret_cast<const float4*>(values)[i];
    sum.x += term(quad.x), sum.y += term(quad.y), sum.z += term(quad.z), sum.w += term(quad.w);
  }
  float rest = 0;
  for (std::int64_t i = 4 * quads + first; i < n; i += stride) rest += term(values[i]);
  const float total = block_sum((sum.x + sum.y) + (sum.z + sum.w) + rest, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kBlocks) total_kernel(float* total, const float* partial, bool accumulate) {
  __shared__ float shared[kWarp];
  const float sum = block_sum(partial[threadIdx.x], shared);
  if (threadIdx.x == 0) *total = accumulate ? *total + sum : sum;
}

template <bool kSquare>
void reduce(Cuda& device, float* total, const float* values, std::int64_t n, bool accumulate) {
  auto* partial = static_cast<float*>(device.workspace(kBlocks * sizeof(float)));
  partial_sums_kernel<kSquare>
      <<<kBlocks, kThreads, 0, device.stream()>>>(partial, values, n, is_aligned(values, 16));
  LAUNCH_CHECK();
  total_kernel<<<1, kBlocks, 0, device.stream()>>>(total, partial, accumulate);
  LAUNCH_CHECK();
}

}  // namespace

void sum(Cuda& device, float* total, const float* values, std::int64_t n, bool accumulate) {
  reduce<false>(device, total, values, n, accumulate);
}

void sum_of_squares(Cuda& device, float* total, const float* values, std::int64_t n, bool accumulate) {
  reduce<true>(device, total, values, n, accumulate);
}

}  // namespace spillway
