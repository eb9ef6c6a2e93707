// Descriptors of the tensor copy engine (TMA).
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/types.hpp"

namespace spillway {

using TensorMap = CUtensorMap;  // a kernel takes it as const __grid_constant__ parameter

inline constexpr int kBoxRows = 64;
inline constexpr int kBoxChannels = 64;

// (B, T, heads, D) bf16 in memory, rows `row_stride` elements apart, as boxes of box_rows rows (at most 256) × kBoxChannels channels of
// one head, swizzled by 128 bytes in shared memory. Coordinates: channel, head, row, batch. Reading outside gives zeros, writing
// outside is left out; so a box may also be wider than D. `matrix` is 16-byte aligned and D a multiple of 8.
// Throws std::runtime_error where the driver refuses.
TensorMap make_tensor_map(const bf16* matrix, int B, int T, int heads, int D, std::int64_t row_stride,
                          int box_rows = kBoxRows);

// (rows, columns) bf16 as boxes of kBoxRows rows × box_blocks blocks of kBoxChannels columns, in shared memory one block
// after the other. Coordinates: 0, row, block, 0. columns is a multiple of kBoxChannels. Otherwise as make_tensor_map.
TensorMap make_column_map(const bf16* matrix, int rows, int columns, int box_blocks);

}  // namespace spillway
