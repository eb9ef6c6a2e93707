// The linear layers with FP8 operands, as matrix products. Both operands of each are contiguous along the summed dimension.
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/gemm.hpp"
#include "kernels/fp8.hpp"

#include <stdexcept>
#include <string>

namespace spillway {

namespace {

// D (m, n) = or += A (m, k)·B (n, k)ᵀ.
void multiply(Cuda& device, int m, int n, int k, const fp8* A, const Fp8Matrix& left, const fp8* B,
              const Fp8Matrix& right, void* D, bool fp32_output, bool fast_accumulation, bool accumulate) {
  SHAPE_CHECK(m % 16 == 0 && n % 16 == 0 && k % 16 == 0, "sizes of FP8 products must be multiples of 16");
  SHAPE_CHECK(right.format == Fp8Format::e4m3, "the second operand of an FP8 product must be e4m3");
  const Gemm shape = {.m = m,
                      .n = n,
                      .k = k,
                      .transpose_a = false,
                      .transpose_b = true,
                      .fp32_output = fp32_output,
                      .batch = 1,
                      .input = left.format == Fp8Format::e4m3 ? GemmInput::e4m3 : GemmInput::e5m2_e4m3,
                      .fast_accumulation = fast_accumulation};
  gemm(device, shape, Fp8Operand{A, &left.scale->inverse}, Fp8Operand{B, &right.scale->inverse},
       accumulate ? 1.0f : 0.0f, D, D);
}

}  // namespace

void fp8_linear_forward(Cuda& device, bf16* y, const Fp8Matrix& x, const Fp8Matrix& W, int rows, int in,
                        int out, bool accumulate) {
  multiply(device, rows, out, in, x.direct, x, W.direct, W, y, false, true, accumulate);
}

void fp8_linear_backward_input(Cuda& device, bf16* dx, const Fp8Matrix& dy, const Fp8Matrix& W, int rows,
                               int in, int out, bool accumulate) {
  multiply(device, rows, in, out, dy.direct, dy, W.transposed, W, dx, false, false, accumulate);
}

void fp8_linear_backward_weight(Cuda& device, float* dW, const Fp8Matrix& dy, const Fp8Matrix& x, int rows,
                                int in, int out, bool accumulate) {
  multiply(device, out, in, rows, dy.transposed, dy, x.transposed, x, dW, true, false, accumulate);
}

}  // namespace spillway
