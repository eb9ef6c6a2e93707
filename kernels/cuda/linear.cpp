// The linear layers, as matrix products.
#include "kernels/cuda/gemm.hpp"
#include "kernels/ops.hpp"

namespace spillway {

void linear_forward(Cuda& device, bf16* y, const bf16* x, const bf16* W, int rows, int in, int out,
                    bool accumulate) {
  const Gemm shape = {
      .m = rows, .n = out, .k = in, .transpose_a = false, .transpose_b = true, .fp32_output = false};
  gemm(device, shape, 1.0f, x, W, accumulate ? 1.0f : 0.0f, y, y);
}

void linear_backward_input(Cuda& device, bf16* dx, const bf16* dy, const bf16* W, int rows, int in, int out,
                           bool accumulate) {
  const Gemm shape = {
      .m = rows, .n = in, .k = out, .transpose_a = false, .transpose_b = false, .fp32_output = false};
  gemm(device, shape, 1.0f, dy, W, accumulate ? 1.0f : 0.0f, dx, dx);
}

void linear_backward_weight(Cuda& device, float* dW, const bf16* dy, const bf16* x, int rows, int in, int out,
                            bool accumulate) {
  const Gemm shape = {
      .m = out, .n = in, .k = rows, .transpose_a = true, .transpose_b = false, .fp32_output = true};
  gemm(device, shape, 1.0f, dy, x, accumulate ? 1.0f : 0.0f, dW, dW);
}

}  // namespace spillway
