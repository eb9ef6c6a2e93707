// cuDNN's causal attention on our fused (rows, 3, H, D) layout.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/cuda/attention_plans.hpp"
#include "kernels/types.hpp"

namespace spillway {

// The compiled graphs of one shape. Arguments of the passes as in kernels/ops.hpp.
class CudnnAttention {
 public:
  // Takes no device memory of its own yet. Throws std::runtime_error with cuDNN's reason where it supports no such shape.
  CudnnAttention(Cuda& device, const AttentionShape& shape);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Bytes of device memory that the first pass takes and this object then holds.
  std::size_t scratch_bytes() const;
  // Throw std::runtime_error where that memory is not there.
  void forward(bf16* o, float* lse, const bf16* qkv);
  void backward(bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse, const bf16* qkv);

 private:
  struct Graphs;
  std::unique_ptr<Graphs> graphs_;
};

}  // namespace spillway
