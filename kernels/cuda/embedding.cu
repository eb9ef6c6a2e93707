// Token embedding with RMS norm. Backward takes the rows in order of their tokens and sums each token's rows in that
// order, so that the result does not depend on the order in which warps run: no atomics.
//
// A run of equal tokens may be as long as the batch (one token everywhere) or one row. One warp sums a few neighbours in
// that order, each row kept in registers between its dot product and its sum: runs inside its part are added to dwte at
// once; a run that touches the part's border leaves a partial sum, and the block of the part in which the run begins adds
// up the partial sums in order.
#include <algorithm>

#include "kernels/cuda/rows.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kLeastPartRows =
    8;  // sorted rows per warp: 4,096 warps at 32,768 rows, two for each place on an H100
constexpr int kMostPartRows = kWarp;  // a lane holds the number of each
constexpr int kBorderThreads = 256;
constexpr int kBorderParts = 16;  // per block
constexpr int kFloats = 4;        // in 16 bytes

template <int kVectors>
__global__ void __launch_bounds__(kRowThreads)
    embedding_norm_forward_kernel(uint4* __restrict__ x, float* __restrict__ rstd, const std::int32_t* tokens,
                                  const uint4* __restrict__ wte, int rows, int C) {
  const int row = row_of_warp();
  if (row >= rows) return;
  const int count = C / kVector;
  const std::int64_t source = static_cast<std::int64_t>(tokens[row]) * count;
  const std::int64_t target = static_cast<std::int64_t>(row) * count;
  uint4 kept[kVectors];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of_lane(i) >= count) break;
    kept[i] = wte[source + column_of_lane(i)];
    squares += dot_product(kept[i], kept[i]);
  }
  const float r = rsqrtf(lane_sum(squares) / static_cast<float>(C) + kNormEpsilon);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of_lane(i) >= count) break;
    float values[kVector];
    unpack(values, kept[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= r;
    x[target + column_of_lane(i)] = pack(values);
  }
  if (threadIdx.x % kWarp == 0) rstd[row] = r;
}

// A row's gradient at the embedding's output, and the output.
template <int kVectors>
struct RowPair {
  float gradient[kVectors][kVector];
  uint4 x[kVectors];
};

// dx0 may be null.
template <int kVectors>
__device__ __forceinline__ void load_pair(RowPair<kVectors>& pair, const uint4* __restrict__ dx,
                                          const uint4* __restrict__ dx0, const uint4* __restrict__ x,
                                          std::int64_t base, int count) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = column_of_lane(i);
    if (column >= count) break;
    unpack(pair.gradient[i], dx[base + column]);
    pair.x[i] = x[base + column];
    if (dx0 == nullptr) continue;
    float more[kVector];
    unpack(more, dx0[base + column]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) pair.gradient[i][j] += more[j];
  }
}

// sum += r·(gradient − x·mean(gradient·x))
template <int kVectors>
__device__ __forceinline__ void add_row(float (&sum)[kVectors][kVector], const RowPair<kVectors>& pair,
                                        float r, int count, int C) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of_lane(i) >= count) break;
    float value[kVector];
    unpack(value, pair.x[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) dot += pair.gradient[i][j] * value[j];
  }
  const float mean = lane_sum(dot) / static_cast<float>(C);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of_lane(i) >= count) break;
    float value[kVector];
    unpack(value, pair.x[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum[i][j] += r * (pair.gradient[i][j] - value[j] * mean);
  }
}

// target = sum, or += sum ; sum = 0. (Atomic additions, which spare the old values the way to the warp, took 17 % longer.)
template <int kVectors>
__device__ __forceinline__ void store_sum(float* target, float (&sum)[kVectors][kVector], bool add,
                                          int count) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of_lane(i) >= count) break;
    float4* place = reinterpret_cast<float4*>(target) + 2 * column_of_lane(i);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 old = add ? place[half] : make_float4(0, 0, 0, 0);
      float* part = sum[i] + half * kFloats;
      place[half] = make_float4(old.x + part[0], old.y + part[1], old.z + part[2], old.w + part[3]);
#pragma unroll
      for (int j = 0; j < kFloats; ++j) part[j] = 0;
    }
  }
}

// partial: (parts, 2, C): the sum of the run that began before the part, and of the one that goes on after it.
template <int kVectors>
__global__ void __launch_bounds__(kRowThreads)
    embedding_runs_kernel(float* __restrict__ dwte, float* __restrict__ partial, const uint4* __restrict__ dx,
                          const uint4* __restrict__ dx0, const uint4* __restrict__ x,
                          const float* __restrict__ rstd, const std::int32_t* __restrict__ tokens,
                          const std::int32_t* __restrict__ order, int rows, int C, int part_rows) {
  const std::int64_t part = row_of_warp();
  const int begin = static_cast<int>(part) * part_rows, end = min(begin + part_rows, rows);
  if (begin >= rows) return;
  const int lane = threadIdx.x % kWarp, count = C / kVector;
  const int my_row = begin + lane < end ? order[begin + lane] : 0;
  const int my_token = begin + lane < end ? tokens[my_row] : -1;
  const float my_rstd = begin + lane < end ? rstd[my_row] : 0.0f;
  const int token_before = begin > 0 ? tokens[order[begin - 1]] : -1;
  const int token_after = end < rows ? tokens[order[end]] : -1;
  float sum[kVectors][kVector] = {};
  bool begun_before = __shfl_sync(0xffffffffu, my_token, 0) == token_before;
  for (int i = 0; begin + i < end; ++i) {
    RowPair<kVectors> pair;
    load_pair(pair, dx, dx0, x, static_cast<std::int64_t>(__shfl_sync(0xffffffffu, my_row, i)) * count,
              count);
    add_row(sum, pair, __shfl_sync(0xffffffffu, my_rstd, i), count, C);
    const int token = __shfl_sync(0xffffffffu, my_token, i);
    const bool last = begin + i + 1 == end;
    const int next_token = last ? token_after : __shfl_sync(0xffffffffu, my_token, (i + 1) % kWarp);
    if (!last && next_token == token) continue;
    const bool goes_on = last && next_token == token;
    if (begun_before)
      store_sum(partial + 2 * part * C, sum, false, count);
    else if (goes_on)
      store_sum(partial + (2 * part + 1) * C, sum, false, count);
    else
      store_sum(dwte + static_cast<std::int64_t>(token) * C, sum, true, count);
    begun_before = false;
  }
}

// The last part of the run that goes on beyond `part`, if it begins in it; else `part`.
__device__ __forceinline__ int last_part_of_run(const std::int32_t* __restrict__ tokens,
                                                const std::int32_t* __restrict__ order, int part, int parts,
                                                int rows, int part_rows) {
  const auto token_at = [&](int place) { return tokens[order[place]]; };
  const int begin = part * part_rows, next = begin + part_rows;
  if (next >= rows) return part;
  const int token = token_at(next - 1);
  if (token_at(next) != token) return part;
  const bool begins_here = begin == 0 || token_at(begin) != token || token_at(begin - 1) != token;
  if (!begins_here) return part;
  int last = part + 1, beyond = parts;  // it is in [last, beyond)
  while (beyond - last > 1) {
    const int middle = (last + beyond) / 2;
    (token_at(middle * part_rows) == token ? last : beyond) = middle;
  }
  return last;
}

// One block per kBorderParts parts. For each in which a run begins that goes on it adds the run's sums: of this part, of the
// parts that the run fills, of the part in which it ends.
__global__ void __launch_bounds__(kBorderThreads)
    embedding_borders_kernel(float* __restrict__ dwte, const float* __restrict__ partial,
                             const std::int32_t* __restrict__ tokens, const std::int32_t* __restrict__ order,
                             int parts, int rows, int C, int part_rows) {
  __shared__ int last_parts[kBorderParts];
  const int first_part = blockIdx.x * kBorderParts, here = min(kBorderParts, parts - first_part);
  if (threadIdx.x < here)
    last_parts[threadIdx.x] =
        last_part_of_run(tokens, order, first_part + threadIdx.x, parts, rows, part_rows);
  __syncthreads();
  const float4* sums = reinterpret_cast<const float4*>(partial);
  const std::int64_t quads = C / kFloats;
  for (int i = 0; i < here; ++i) {
    const std::int64_t first = first_part + i, last = last_parts[i];
    if (last == first) continue;
    const std::int64_t token = tokens[order[(first + 1) * part_rows]];
    for (int column = threadIdx.x; column < quads; column += kBorderThreads) {
      float4 sum = sums[(2 * first + 1) * quads + column];
#pragma unroll 8
      for (std::int64_t part = first + 1; part <= last; ++part) {
        const float4 more = sums[2 * part * quads + column];
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
      }
      float4& target = reinterpret_cast<float4*>(dwte)[token * quads + column];
      target = make_float4(target.x + sum.x, target.y + sum.y, target.z + sum.z, target.w + sum.w);
    }
  }
}

// More rows per warp where the partial sums would not fit the workspace.
int rows_of_part(int rows, int C) {
  int part_rows = kLeastPartRows;
  while (part_rows < kMostPartRows &&
         std::size_t{2} * ceil_div(rows, part_rows) * C * sizeof(float) > Cuda::kWorkspaceBytes)
    part_rows *= 2;
  return part_rows;
}

}  // namespace

void embedding_norm_forward(Cuda& device, bf16* x, float* rstd, const std::int32_t* tokens, const bf16* wte,
                            int rows, int C) {
  with_row_vectors(C, [&](auto count) {
    embedding_norm_forward_kernel<count()>
        <<<ceil_div(rows, kRowsPerBlock), kRowThreads, 0, device.stream()>>>(vectors(x), rstd, tokens,
                                                                             vectors(wte), rows, C);
  });
  LAUNCH_CHECK();
}

void embedding_norm_backward(Cuda& device, float* dwte, const bf16* dx, const bf16* dx0, const bf16* x,
                             const float* rstd, const std::int32_t* tokens, const std::int32_t* order,
                             int rows, int C) {
  SHAPE_CHECK(C > 0 && C % kVector == 0 && is_aligned(dwte, 16), "the width must be a multiple of 8");
  const int part_rows = rows_of_part(rows, C), parts = ceil_div(rows, part_rows);
  auto* partial = static_cast<float*>(device.workspace(std::size_t{2} * parts * C * sizeof(float)));
  with_row_vectors(C, [&](auto count) {
    embedding_runs_kernel<count()><<<ceil_div(parts, kRowsPerBlock), kRowThreads, 0, device.stream()>>>(
        dwte, partial, vectors(dx), dx0 == nullptr ? nullptr : vectors(dx0), vectors(x), rstd, tokens, order,
        rows, C, part_rows);
  });
  LAUNCH_CHECK();
  embedding_borders_kernel<<<ceil_div(parts, kBorderParts), kBorderThreads, 0, device.stream()>>>(
      dwte, partial, tokens, order, parts, rows, C, part_rows);
  LAUNCH_CHECK();
}

}  // namespace spillway
