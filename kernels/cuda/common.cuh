// What the elementwise and row kernels share: 16-byte vectors of bf16, warp and block sums in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/types.hpp"

namespace spillway {

inline constexpr int kWarp = 32;
inline constexpr int kVector = 8;  // bf16 elements in 16 bytes

inline int ceil_div(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

inline bool is_aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

// A pointer to bf16 elements as one to 16-byte vectors of them.
__host__ __device__ inline uint4* vectors(bf16* pointer) { return reinterpret_cast<uint4*>(pointer); }
__host__ __device__ inline const uint4* vectors(const bf16* pointer) {
  return reinterpret_cast<const uint4*>(pointer);
}

__device__ __forceinline__ float bf16_low(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ void unpack(float (&values)[kVector], const uint4& packed) {
  values[0] = bf16_low(packed.x), values[1] = bf16_high(packed.x);
  values[2] = bf16_low(packed.y), values[3] = bf16_high(packed.y);
  values[4] = bf16_low(packed.z), values[5] = bf16_high(packed.z);
  values[6] = bf16_low(packed.w), values[7] = bf16_high(packed.w);
}

__device__ __forceinline__ uint4 pack(const float (&values)[kVector]) {
  return make_uint4(ptx::pack_bf16(values[0], values[1]), ptx::pack_bf16(values[2], values[3]),
                    ptx::pack_bf16(values[4], values[5]), ptx::pack_bf16(values[6], values[7]));
}

// 8 neighbouring floats, 16-byte aligned.
__device__ __forceinline__ void load_floats(float (&values)[kVector], const float* pointer) {
  const float4 low = *reinterpret_cast<const float4*>(pointer);
  const float4 high = *reinterpret_cast<const float4*>(pointer + 4);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

__device__ __forceinline__ float load_bf16(const bf16* pointer) {
  return __uint_as_float(static_cast<std::uint32_t>(pointer->bits) << 16);
}

__device__ __forceinline__ bf16 store_bf16(float value) {
  return {static_cast<std::uint16_t>(ptx::pack_bf16(value, 0.0f))};
}

// The sum over kLanes neighbouring lanes, in all of them.
template <int kLanes = kWarp>
__device__ __forceinline__ float lane_sum(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// The sum over the block, in all threads. `shared`: 32 floats that no thread is still reading. blockDim.x is a multiple
// of 32.
__device__ __forceinline__ float block_sum(float value, float* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  value = lane_sum(value);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  value = lane_sum(lane < warps ? shared[lane] : 0.0f);
  __syncthreads();
  return value;
}

}  // namespace spillway
