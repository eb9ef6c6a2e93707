// Our own causal attention kernels; attention.cpp chooses between them and cuDNN's.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/types.hpp"

namespace spillway {

// Arguments as attention_forward and attention_backward in kernels/ops.hpp. D: 32, 64 or 128, any T.
// Deterministic: every output element is summed by one block in a fixed order.
void own_attention_forward(Cuda& device, bf16* o, float* lse, const bf16* qkv, int B, int T, int H, int D);
void own_attention_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                            const bf16* qkv, float* workspace, int B, int T, int H, int D);

// The first part of own_attention_backward: dq into dqkv, and delta[b,h,t] = <do, o>.   delta: (B, H, T)
void attention_dq(Cuda& device, bf16* dqkv, float* delta, const bf16* d_o, const bf16* o, const float* lse,
                  const bf16* qkv, int B, int T, int H, int D);
// The second: dk and dv into dqkv.
void attention_dkv(Cuda& device, bf16* dqkv, const bf16* d_o, const float* lse, const float* delta,
                   const bf16* qkv, int B, int T, int H, int D);

}  // namespace spillway
