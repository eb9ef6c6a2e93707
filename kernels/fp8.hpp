// FP8 copies of matrices and products of them, for the linear layers of a training step on Hopper.
//
// Hopper multiplies FP8 only where both operands are contiguous along the summed dimension. So a matrix that is summed
// over its columns in one product and over its rows in another is kept twice, as it is and transposed.
// A value v is stored as round(v·2^s), s one whole number per matrix: scaling itself rounds nothing.
#pragma once

#include <cstdint>

#include "kernels/types.hpp"

namespace spillway {

struct Cuda;  // kernels/cuda/device.hpp

// e4m3: 4 bits of exponent, 3 of mantissa, up to 448. e5m2: up to 57,344. Both without infinity here: what does not fit is
// stored as the largest number, what is not finite as NaN.
enum class Fp8Format { e4m3, e5m2 };

// One element of either format.
struct fp8 {
  std::uint8_t bits;
};

// How a matrix is scaled. In device memory; the ops below keep it. cuBLASLt reads `inverse`, at multiples of 16 bytes.
struct alignas(16) Fp8Scale {
  float inverse;  // 2^−s
  float amax;     // the largest magnitude that 2^s was chosen for
};

// A (rows, cols) matrix in FP8. Sizes are multiples of 16, all pointers 16-byte aligned.
struct Fp8Matrix {
  fp8* direct;      // (rows, cols)
  fp8* transposed;  // (cols, rows)
  Fp8Scale* scale;
  Fp8Format format;
};

// Where the scale of a matrix comes from.
enum class Fp8Scaling {
  measure,  // from the matrix itself, read once more for its largest magnitude
  hold      // from scale->amax as an earlier call left it
};

// 2^s is the largest that leaves scale->amax this much room, so that later matrices under a held scale may be larger.
// e5m2 has range to spare: 2^30 between its normal numbers.
inline constexpr int kFp8RoomLog2[] = {1, 4};  // by Fp8Format

// out = fp8(x).  x: (rows, cols)
void fp8_cast(Cuda& device, const Fp8Matrix& out, const bf16* x, int rows, int cols, Fp8Scaling scaling);
// out = fp8(relu(h)²).  h: (rows, cols)
void fp8_relu2_forward(Cuda& device, const Fp8Matrix& out, const bf16* h, int rows, int cols,
                       Fp8Scaling scaling);
// out = fp8(2·relu(h)·da), the gradient at h.  da, h: (rows, cols)
void fp8_relu2_backward(Cuda& device, const Fp8Matrix& out, const bf16* da, const bf16* h, int rows, int cols,
                        Fp8Scaling scaling);

// mix_norm_forward, and out = fp8(h) under a held scale: no |h| is above √C.
void fp8_mix_norm_forward(Cuda& device, const Fp8Matrix& out, bf16* h, float* rstd, bf16* x, const bf16* x0,
                          const float* lambda_r, const float* lambda_0, int rows, int C);
// mix_norm_backward, and out = fp8(dx) as it leaves, under a held scale.
void fp8_mix_norm_backward(Cuda& device, const Fp8Matrix& out, bf16* dx, bf16* dx0, float* dlambda_r,
                           float* dlambda_0, const bf16* dh, const bf16* h, const float* rstd, const bf16* x0,
                           const float* lambda_r, const float* lambda_0, float* workspace, int rows, int C);
// out = fp8(the gradient of the projection's output), where dqkv is the gradient after rope and norm, which stays as it is:
// rope_qk_norm_backward and fp8_cast in one, under a held scale.  dqkv, qkv: (rows, 3, H, D)
void fp8_rope_qk_norm_backward(Cuda& device, const Fp8Matrix& out, const bf16* dqkv, const bf16* qkv,
                               const float* rstd, const float* cosine, const float* sine, int B, int T, int H,
                               int D);

// The linear layers of kernels/ops.hpp with FP8 operands and fp32 accumulation. x: (rows, in)  W: (out, in)  dy: (rows, out)
// x and W are e4m3, dy is e5m2 (or e4m3). y and dx: bf16, dW: float.
// Each of a sum's products is rounded to about 14 bits in the forward pass (cuBLASLt's fast accumulation); the gradients'
// sums are carried to fp32 every few products.
void fp8_linear_forward(Cuda& device, bf16* y, const Fp8Matrix& x, const Fp8Matrix& W, int rows, int in,
                        int out, bool accumulate);
void fp8_linear_backward_input(Cuda& device, bf16* dx, const Fp8Matrix& dy, const Fp8Matrix& W, int rows,
                               int in, int out, bool accumulate);
void fp8_linear_backward_weight(Cuda& device, float* dW, const Fp8Matrix& dy, const Fp8Matrix& x, int rows,
                                int in, int out, bool accumulate);

}  // namespace spillway
