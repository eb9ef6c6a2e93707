// Matrix products through cuBLASLt, for the ops of this folder.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/types.hpp"

namespace spillway {

// What the operands are. FP8 ones are multiplied by their matrix's inverse scale, on the device.
enum class GemmInput { bf16, e4m3, e5m2_e4m3 };

// One row-major product D = alpha·op(A)·op(B) + beta·C with fp32 accumulation; op(A): (m, k), op(B): (k, n), C and D: (m, n).
struct Gemm {
  int m, n, k;
  bool transpose_a;  // A is stored as (k, m)
  bool transpose_b;  // B is stored as (n, k)
  bool fp32_output;  // C and D are float, else bf16
  int batch = 1;     // so many products of contiguous matrices
  GemmInput input = GemmInput::bf16;
  bool fast_accumulation = false;  // FP8: sums of about 14 bits instead of fp32's

  friend auto operator<=>(const Gemm&, const Gemm&) = default;
};

// A and B: bf16. C and D: bf16 or float; they may be the same. The first call of a shape finds its plan: cuBLASLt's first
// choice, or where device.rehearsing and not device.deterministic the fastest of its candidates in a trial that writes
// to D several times. Throws std::runtime_error where cuBLASLt supports no such product.
void gemm(Cuda& device, const Gemm& shape, float alpha, const bf16* A, const bf16* B, float beta,
          const void* C, void* D);

// The same for FP8 operands: a, b and their factors 2^−s, on the device. Hopper takes A as (m, k) and B as (n, k) only:
// shape.transpose_a is false, transpose_b true.
struct Fp8Operand {
  const void* values;
  const float* inverse_scale;
};
void gemm(Cuda& device, const Gemm& shape, Fp8Operand A, Fp8Operand B, float beta, const void* C, void* D);

}  // namespace spillway
