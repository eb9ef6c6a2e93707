// Linear layers over OpenBLAS.
#include <cblas.h>

#include "kernels/ops.hpp"

namespace spillway {
namespace {

// c (m, n) = a·b or += a·b; a and b as stored, transposed where asked.
void gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const float* a, const float* b, float* c,
          bool accumulate) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
              m, n, k, 1.0f, a, transpose_a ? m : k, b, transpose_b ? k : n, accumulate ? 1.0f : 0.0f, c, n);
}

}  // namespace

void linear_forward(Cpu&, float* y, const float* x, const float* W, int rows, int in, int out,
                    bool accumulate) {
  gemm(false, true, rows, out, in, x, W, y, accumulate);
}

void linear_backward_input(Cpu&, float* dx, const float* dy, const float* W, int rows, int in, int out,
                           bool accumulate) {
  gemm(false, false, rows, in, out, dy, W, dx, accumulate);
}

void linear_backward_weight(Cpu&, float* dW, const float* dy, const float* x, int rows, int in, int out,
                            bool accumulate) {
  gemm(true, false, out, in, rows, dy, x, dW, accumulate);
}

}  // namespace spillway
