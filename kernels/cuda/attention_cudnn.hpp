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
  // Throws std::runtime_error with cuDNN's reason where it supports no such shape.
  CudnnAttention(Cuda& device, const AttentionShape& shape);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Bytes of scratch that the backward pass needs.
  std::size_t backward_workspace_bytes() const;
  void forward(Cuda& device, bf16* o, float* lse, const bf16* qkv);
  // workspace: backward_workspace_bytes().
  void backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse, const bf16* qkv,
                void* workspace);

 private:
  struct Graphs;
  std::unique_ptr<Graphs> graphs_;
};

}  // namespace spillway
