// Products of our own GEMM with the elementwise work that follows them; fused.cpp chooses between them and cuBLASLt with
// separate kernels.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/types.hpp"

namespace spillway {

// Whether the products below can run on D = A·B with n columns and depth k: 16-byte rows and pointers.
bool own_gemm_serves(const void* D, const void* A, const void* B, int n, int k);

// Arguments as the ops of the same name in kernels/ops.hpp. Deterministic. D: 64 or 128; relu2_backward: in % 64 = 0.
void own_linear_relu2_forward(Cuda& device, bf16* a, const bf16* x, const bf16* W, int rows, int in, int out);
void own_linear_relu2_backward(Cuda& device, bf16* dh, const bf16* dy, const bf16* W, const bf16* a, int rows,
                               int in, int out);
void own_qkv_forward(Cuda& device, bf16* qkv, float* rstd, const bf16* x, const bf16* W, const float* cosine,
                     const float* sine, int B, int T, int H, int D);

}  // namespace spillway
