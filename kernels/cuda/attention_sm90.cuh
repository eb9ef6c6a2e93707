// What the causal attention kernels for Hopper share: their arguments and the order of their work.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention_own.hpp"
#include "kernels/cuda/warpgroup.cuh"

namespace spillway::warpgroup {

inline constexpr float kLog2E = 1.4426950408889634f;

struct AttentionArguments {
  unsigned* next_item;  // of the items after each block's first; 0 at the launch
  int heads, T, H;      // heads: B·H
  float scale;          // 1/√D
};

// Where the backward pass finds what rope_qk_norm_forward used and wrote, to undo it at once. Null: it does not.
struct RopeArguments {
  const float *rstd, *cosine, *sine;
};

// Statistics of 64 queries, for the keys' side of the backward pass: lse in base 2 (∞ beyond T), then delta (0 beyond T).
inline constexpr int kStatisticsBlock = 2 * 64;
__device__ __forceinline__ std::int64_t statistics_at(int all_head, int query, int T) {
  const int blocks = (T + 63) / 64;
  return (static_cast<std::int64_t>(all_head) * blocks + query / 64) * kStatisticsBlock + query % 64;
}

// One head's block of rows.
struct Item {
  int batch, head;
  int all_head;  // batch·H + head
  int rank;      // of the block in its head: the highest has most work
};
inline constexpr int kHeadGroup = 16;

// Items of one group of heads are neighbours, so that the heads' keys and values stay in the L2 cache; within a group those
// with most work come first, so that short ones fill the end.
__device__ __forceinline__ Item item_at(int index, const AttentionArguments& args, int blocks) {
  const int group = index / (kHeadGroup * blocks), rest = index % (kHeadGroup * blocks);
  const int group_heads = min(kHeadGroup, args.heads - group * kHeadGroup);
  const int all_head = group * kHeadGroup + rest % group_heads;
  return {all_head / args.H, all_head % args.H, all_head, blocks - 1 - rest / group_heads};
}

// Draws the block's next item: the first by its index, the others from the counter of all blocks.
__device__ __forceinline__ int draw_item(const AttentionArguments& args) {
  return static_cast<int>(gridDim.x + atomicAdd(args.next_item, 1u));
}

// Where q, k and v (which = 0, 1, 2), or their gradients, lie in a map of (B, T, 3·H, D).
__device__ __forceinline__ int fused_head(const AttentionArguments& args, const Item& item, int which) {
  return which * args.H + item.head;
}

// c: gradients at 64 rows of normalized q or k, in a warpgroup's accumulators; they become those at the projection's output:
// d(rotated) = rstd·(c − y·mean(c·y)), then the rotation by +θ, as rope_qk_norm_backward. y_tile: the rows of q or k;
// first_row: their place in the sequence; which: 0 for q, 1 for k.
template <int D>
__device__ __forceinline__ void undo_rope_and_norm(float (&c)[D / 2], std::uint32_t y_tile, int first_row,
                                                   int which, const Item& item,
                                                   const AttentionArguments& args,
                                                   const RopeArguments& rope) {
  constexpr int kPairs = D / 16;  // of 8 channels; two that are kPairs/2 apart are rotated into each other
  float dot[2] = {}, r[2];
  int place[2];
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    std::uint32_t y[4];
    ptx::load_matrix_x4(accumulator_address(y_tile, pair), y);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      dot[i % 2] += c[8 * pair + 2 * i] * bf16_low(y[i]) + c[8 * pair + 2 * i + 1] * bf16_high(y[i]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    dot[half] = lane_sum<4>(dot[half]) / D;
    const int t = min(first_row + accumulator_row(2 * half), args.T - 1);
    const std::int64_t row = static_cast<std::int64_t>(item.batch) * args.T + t;
    r[half] = rope.rstd[(row * 2 + which) * args.H + item.head];
    place[half] = t * (D / 2);
  }
#pragma unroll
  for (int pair = 0; pair < kPairs / 2; ++pair) {
    std::uint32_t y1[4], y2[4];
    ptx::load_matrix_x4(accumulator_address(y_tile, pair), y1);
    ptx::load_matrix_x4(accumulator_address(y_tile, pair + kPairs / 2), y2);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int half = i % 2, first = 8 * pair + 2 * i, column = place[half] + accumulator_column(first);
      const float2 cosine = *reinterpret_cast<const float2*>(rope.cosine + column);
      const float2 sine = *reinterpret_cast<const float2*>(rope.sine + column);
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        float &d1 = c[first + odd], &d2 = c[first + odd + D / 4];
        const float value1 = odd ? bf16_high(y1[i]) : bf16_low(y1[i]);
        const float value2 = odd ? bf16_high(y2[i]) : bf16_low(y2[i]);
        const float cos = odd ? cosine.y : cosine.x, sin = odd ? sine.y : sine.x;
        const float r1 = r[half] * (d1 - value1 * dot[half]), r2 = r[half] * (d2 - value2 * dot[half]);
        d1 = r1 * cos - r2 * sin;
        d2 = r1 * sin + r2 * cos;
      }
    }
  }
}

inline TensorMap fused_map(const bf16* qkv, int B, int T, int H, int D) {
  return make_tensor_map(qkv, B, T, 3 * H, D, std::int64_t{3} * H * D);
}
inline TensorMap head_map(const bf16* o, int B, int T, int H, int D) {
  return make_tensor_map(o, B, T, H, D, std::int64_t{H} * D);
}

// A zeroed counter of items, in stream order; the next op may overwrite it.
inline unsigned* new_item_counter(const Cuda& device) {
  auto* counter = static_cast<unsigned*>(device.workspace(sizeof(unsigned)));
  CUDA_CHECK(cudaMemsetAsync(counter, 0, sizeof(unsigned), device.stream()));
  return counter;
}

// Launches a persistent kernel for `items` items: Shape gives its threads and bytes of shared memory.
template <class Shape, class Kernel, class... Arguments>
void launch_persistent(const Cuda& device, Kernel kernel, int items, const Arguments&... arguments) {
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kSharedBytes));
  kernel<<<std::min(items, device.multiprocessors()), Shape::kThreadsInAll, Shape::kSharedBytes,
           device.stream()>>>(arguments...);
  LAUNCH_CHECK();
}

// Calls `launch` with the channels of the kernel that serves head dimension D. Maps fill missing channels with zeros when
// reading and leave them out when writing, so D = 32 takes the kernel of 64.
template <class Launch>
void with_kernel_channels(int D, const Launch& launch) {
  SHAPE_CHECK(D == 32 || D == 64 || D == 128, "the head dimension must be 32, 64 or 128");
  if (D == 128)
    launch(std::integral_constant<int, 128>());
  else
    launch(std::integral_constant<int, 64>());
}

}  // namespace spillway::warpgroup
