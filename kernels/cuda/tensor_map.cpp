#include "kernels/cuda/tensor_map.hpp"

#include <cuda_runtime.h>

#include <array>
#include <string>

#include "kernels/cuda/check.hpp"

namespace spillway {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);
using Sizes = std::array<std::int64_t, 4>;    // elements, fastest first
using Strides = std::array<std::int64_t, 3>;  // elements, of all but the fastest
using Box = std::array<cuuint32_t, 4>;

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

TensorMap make_map(const bf16* matrix, const Sizes& sizes, const Strides& strides, const Box& box) {
  static const Encode encode = encode_tiled();
  std::array<cuuint64_t, 4> elements{};
  std::array<cuuint64_t, 3> bytes{};
  for (std::size_t i = 0; i < sizes.size(); ++i) elements[i] = static_cast<cuuint64_t>(sizes[i]);
  for (std::size_t i = 0; i < strides.size(); ++i)
    bytes[i] = static_cast<cuuint64_t>(strides[i]) * sizeof(bf16);
  const Box steps = {1, 1, 1, 1};
  TensorMap map;
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<bf16*>(matrix),
                                 elements.data(), bytes.data(), box.data(), steps.data(),
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SHAPE_CHECK(status == CUDA_SUCCESS, "the driver refuses this tensor map");
  return map;
}

}  // namespace

TensorMap make_tensor_map(const bf16* matrix, int B, int T, int heads, int D, std::int64_t row_stride,
                          int box_rows) {
  return make_map(matrix, {D, heads, T, B}, {D, row_stride, row_stride * T},
                  {kBoxChannels, 1, static_cast<cuuint32_t>(box_rows), 1});
}

TensorMap make_column_map(const bf16* matrix, int rows, int columns, int box_blocks) {
  SHAPE_CHECK(columns % kBoxChannels == 0, "blocks of columns must be whole");
  return make_map(matrix, {kBoxChannels, rows, columns / kBoxChannels, 1},
                  {columns, kBoxChannels, std::int64_t{rows} * columns},
                  {kBoxChannels, kBoxRows, static_cast<cuuint32_t>(box_blocks), 1});
}

}  // namespace spillway
