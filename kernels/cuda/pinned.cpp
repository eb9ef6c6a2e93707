#include "kernels/cuda/pinned.hpp"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "kernels/cuda/check.hpp"

namespace spillway {

PinnedMemory::PinnedMemory(std::size_t bytes) {
  const cudaError_t status = cudaHostAlloc(&memory_, std::max<std::size_t>(bytes, 1), cudaHostAllocDefault);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // reported by the exception
    throw std::bad_alloc();
  }
  CUDA_CHECK(status);
}

PinnedMemory::~PinnedMemory() {
  if (cudaFreeHost(memory_) != cudaSuccess) std::fprintf(stderr, "CUDA: pinned memory could not be freed\n");
}

PinnedRange::PinnedRange(void* memory, std::size_t bytes) : memory_(memory) {
  if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess) return;
  (void)cudaGetLastError();  // reported by the exception
  throw std::bad_alloc();
}

PinnedRange::~PinnedRange() {
  if (cudaHostUnregister(memory_) != cudaSuccess) std::fprintf(stderr, "CUDA: memory is pinned still\n");
}

}  // namespace spillway
