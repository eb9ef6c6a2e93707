// What a Cuda device owns, for the .cpp files of this folder. Not for nvcc: version 13.0 with g++ 12 crashes on
// containers of cuBLASLt's anonymous structs.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <string>

#include "kernels/cuda/device.hpp"

namespace spillway {

class GemmPlans;       // gemm_plans.hpp
class AttentionPlans;  // attention_plans.hpp
class FusedPlans;      // fused_plans.hpp

// Two pinned buffers that alternate: one is filled by the host while the GPU reads the other.
struct StagingBuffer {
  void* memory = nullptr;
  cudaEvent_t copied = nullptr;  // the GPU has read what the buffer held
};
inline constexpr std::size_t kStagingBytes = std::size_t{1} << 20;

struct Cuda::State {
  State();
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  // Takes GPU `gpu`. Whatever is taken before an error is given back by the destructor.
  void open(int gpu);

  int index = -1;
  int multiprocessors = 0;
  std::string model_name;
  cudaStream_t stream = nullptr;
  cublasLtHandle_t cublas = nullptr;
  void* workspace = nullptr;
  std::array<StagingBuffer, 2> staging;
  std::size_t next_staging = 0;
  std::unique_ptr<GemmPlans> gemm_plans;
  std::unique_ptr<AttentionPlans> attention_plans;
  std::unique_ptr<FusedPlans> fused_plans;
};

}  // namespace spillway
