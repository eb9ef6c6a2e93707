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
