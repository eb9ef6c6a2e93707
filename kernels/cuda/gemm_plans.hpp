// The plans of all matrix products that a device has seen.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <string>

#include "kernels/cuda/gemm.hpp"

namespace spillway {

// What a plan depends on: the shape, and how far its pointers are aligned (bytes, at most 256).
struct GemmKey {
  Gemm shape;
  int alignment_a, alignment_b, alignment_c, alignment_d;
  friend auto operator<=>(const GemmKey&, const GemmKey&) = default;
};

// cuBLASLt's descriptions of one product and the algorithm chosen for it.
struct GemmPlan {
  explicit GemmPlan(const Gemm& shape);
  ~GemmPlan();
  GemmPlan(const GemmPlan&) = delete;
  GemmPlan& operator=(const GemmPlan&) = delete;

  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t A = nullptr, B = nullptr, C = nullptr;  // in cuBLASLt's order: its A is our B
  cublasLtMatmulAlgo_t algorithm{};
  int candidates = 0;  // timed; 1: cuBLASLt's first choice was taken
  int chosen = 0;      // its rank among cuBLASLt's choices
  float best_ms = 0;   // 0: not timed
  float first_choice_ms = 0;
};

class GemmPlans {
 public:
  // The plan of a product, made at the first call.
  struct Operands {
    float alpha, beta;
    const void* A;
    const void* B;
    const void* C;
    void* D;
    const float* scale_A = nullptr;  // of FP8 operands
    const float* scale_B = nullptr;
  };
  const GemmPlan& find(Cuda& device, const Gemm& shape, const Operands& operands);
  // One line per plan.
  std::string describe() const;

 private:
  std::map<GemmKey, std::unique_ptr<GemmPlan>> plans_;
};

}  // namespace spillway
