#include "kernels/cuda/bus_id.hpp"

#include <cuda_runtime.h>

#include "kernels/cuda/check.hpp"

namespace spillway {

std::string gpu_bus_id_of(int index) {
  char text[32] = {};
  CUDA_CHECK(cudaDeviceGetPCIBusId(text, sizeof text, index));
  return text;
}

}  // namespace spillway
