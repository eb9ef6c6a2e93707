#include "kernels/cuda/tensor_map.hpp"

#include <cuda_runtime.h>

#include <array>
#include <string>

#include "kernels/cuda/check.hpp"

namespace spillway {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's function, found at run time: the binary also starts on machines without a driver.
Encode encode_tiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                              &found));
  SHAPE_CHECK(found == cudaDriverEntryPointSuccess,
              "the driver has no tensor maps: it is older than CUDA 12");
  return reinterpret_cast<Encode>(function);
}

}  // namespace

TensorMap make_tensor_map(const bf16* matrix, int B, int T, int heads, int D, std::int64_t row_stride) {
  static const Encode encode = encode_tiled();
  const auto bytes = [](std::int64_t elements) { return static_cast<cuuint64_t>(elements) * sizeof(bf16); };
  const std::array<cuuint64_t, 4> sizes = {static_cast<cuuint64_t>(D), static_cast<cuuint64_t>(heads),
                                           static_cast<cuuint64_t>(T), static_cast<cuuint64_t>(B)};
  const std::array<cuuint64_t, 3> strides = {bytes(D), bytes(row_stride), bytes(row_stride * T)};
  const std::array<cuuint32_t, 4> box = {kBoxChannels, 1, kBoxRows, 1}, steps = {1, 1, 1, 1};
  TensorMap map;
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<bf16*>(matrix),
                                 sizes.data(), strides.data(), box.data(), steps.data(),
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SHAPE_CHECK(status == CUDA_SUCCESS, "the driver refuses this tensor map");
  return map;
}

}  // namespace spillway
