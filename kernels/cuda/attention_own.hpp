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

// The same as attention_rope_backward: followed by rope_qk_norm_backward, at no traffic of its own. D: 64 or 128.
void own_attention_rope_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                                 const bf16* qkv, const float* rstd, const float* cosine, const float* sine,
                                 float* workspace, int B, int T, int H, int D);

// The first part of the backward pass: dq into dqkv, and for the second part lse·log₂e and delta = <do, o> of each row.
// statistics: (B, H, ⌈T/64⌉, 2, 64), 16-byte aligned. rstd, cosine, sine: null, or as rope_qk_norm_backward.
void attention_dq(Cuda& device, bf16* dqkv, float* statistics, const bf16* d_o, const bf16* o,
                  const float* lse, const bf16* qkv, const float* rstd, const float* cosine,
                  const float* sine, int B, int T, int H, int D);
// The second: dk and dv into dqkv.
void attention_dkv(Cuda& device, bf16* dqkv, const bf16* d_o, const float* statistics, const bf16* qkv,
                   const float* rstd, const float* cosine, const float* sine, int B, int T, int H, int D);

}  // namespace spillway
