// Token embedding with RMS norm. Backward takes the rows in order of their tokens and sums each token's rows in that
// order, so that the result does not depend on the order in which warps run: no atomics.
//
// A run of equal tokens may be as long as the batch (one token everywhere) or one row. One warp takes a part of a few
// neighbours in that order. A run that ends in the part after the one in which it begins, or earlier, is short: one warp
// sums all of it on top of what dwte has. A long one leaves a partial sum in each part, and a second kernel adds them up
// in order.
#include <algorithm>

#include "kernels/cuda/rows.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kLeastPartRows =
    8;  // sorted rows per warp: 4,096 warps at 32,768 rows, two for each place on an H100
constexpr int kMostPartRows = kWarp;  // a lane holds the number of each
constexpr int kLongRunThreads = 256;
constexpr int kLongRunParts = 16;  // per block
constexpr int kFloats = 4;         // in 16 bytes

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
  for (int i = 0; i < kVectors; ++i) kept[i] = row_vector<kVectors>(wte + source, i, count);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) squares += dot_product(kept[i], kept[i]);
  const float r = rsqrtf(lane_sum(squares) / static_cast<float>(C) + kNormEpsilon);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (!inside_row<kVectors>(i, count)) break;
    float values[kVector];
    unpack(values, kept[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= r;
    x[target + column_of_lane(i)] = pack(values);
  }
  if (threadIdx.x % kWarp == 0) rstd[row] = r;
}

// What a lane holds of a row: the gradient at the embedding's output (the sum of both, if kTwo) and the output.
template <int kVectors, bool kTwo>
struct GradientRow {
  uint4 dx[kVectors], dx0[kTwo ? kVectors : 1], x[kVectors];
};

// The i-th vector of this lane, beyond the row's end the row's last. So no load depends on a branch, and all of a row's are
// under way at once: with a branch before each vector it was three of fifteen, and memory ran at 76 % of the copy's rate.
template <int kVectors>
__device__ __forceinline__ int loaded_column(int i, int count) {
  return inside_row<kVectors>(i, count) ? column_of_lane(i) : count - 1;
}

template <int kVectors, bool kTwo>
__device__ __forceinline__ void load_row(GradientRow<kVectors, kTwo>& row, const uint4* __restrict__ dx,
                                         const uint4* __restrict__ dx0, const uint4* __restrict__ x,
                                         std::int64_t base, int count) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const std::int64_t vector = base + loaded_column<kVectors>(i, count);
    row.dx[i] = dx[vector];
    row.x[i] = x[vector];
    if constexpr (kTwo) row.dx0[i] = dx0[vector];
  }
}

template <int kVectors, bool kTwo>
__device__ __forceinline__ void gradient_of(float (&g)[kVector], const GradientRow<kVectors, kTwo>& row,
                                            int i) {
  unpack(g, row.dx[i]);
  if constexpr (kTwo) {
    float more[kVector];
    unpack(more, row.dx0[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) g[j] += more[j];
  }
}

// sum += r·(g − x·mean(g·x))
template <int kVectors, bool kTwo>
__device__ __forceinline__ void add_row(float (&sum)[kVectors][kVector],
                                        const GradientRow<kVectors, kTwo>& row, float r, int count, int C) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    float g[kVector], x[kVector], part = 0;
    gradient_of(g, row, i);
    unpack(x, row.x[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) part += g[j] * x[j];
    dot += inside_row<kVectors>(i, count) ? part : 0.0f;
  }
  const float mean = lane_sum(dot) / static_cast<float>(C);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    float g[kVector], x[kVector];
    gradient_of(g, row, i);
    unpack(x, row.x[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum[i][j] += r * (g[j] - x[j] * mean);
  }
}

template <int kVectors>
__device__ __forceinline__ void load_sum(float (&sum)[kVectors][kVector], const float* source, int count) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    load_floats(sum[i], source + kVector * loaded_column<kVectors>(i, count));
}

template <int kVectors>
__device__ __forceinline__ void store_sum(float* target, const float (&sum)[kVectors][kVector], int count) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (!inside_row<kVectors>(i, count)) break;
    float4* place = reinterpret_cast<float4*>(target) + 2 * column_of_lane(i);
    place[0] = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    place[1] = make_float4(sum[i][4], sum[i][5], sum[i][6], sum[i][7]);
  }
}

// The rows in order of their tokens, `rows` of them.
struct SortedRows {
  const std::int32_t *tokens, *order;
  int rows;

  // −1 outside.
  __device__ __forceinline__ int token_at(int place) const {
    return place >= 0 && place < rows ? tokens[order[place]] : -1;
  }
};

// partial: (parts, 2, C): the sum of the long run that began before the part, and of the one that goes on after it.
// A run's sum starts from what dwte has, which arrives with the run's first row. (Atomic additions, which spare the old values
// the way to the warp, took 17 % longer.)
template <int kVectors, bool kTwo>
__global__ void __launch_bounds__(kRowThreads, kVectors <= 5 ? 2 : 1)
    embedding_runs_kernel(float* __restrict__ dwte, float* __restrict__ partial, const uint4* __restrict__ dx,
                          const uint4* __restrict__ dx0, const uint4* __restrict__ x,
                          const float* __restrict__ rstd, const SortedRows sorted, int C, int part_rows) {
  constexpr unsigned kAll = 0xffffffffu;
  const std::int64_t part = row_of_warp();
  const int begin = static_cast<int>(part) * part_rows, end = min(begin + part_rows, sorted.rows);
  if (begin >= sorted.rows) return;
  const int lane = threadIdx.x % kWarp, count = C / kVector, own = end - begin;

  // This part's rows, and the next part's, which belong here as far as a short run goes on into them.
  const bool has_row = lane < own, has_next = lane < part_rows && end + lane < sorted.rows;
  const int my_row = has_row ? sorted.order[begin + lane] : 0;
  const int next_row = has_next ? sorted.order[end + lane] : 0;
  const int my_token = has_row ? sorted.tokens[my_row] : -1;
  const int next_token = has_next ? sorted.tokens[next_row] : -1;
  const float my_rstd = has_row ? rstd[my_row] : 0.0f, next_rstd = has_next ? rstd[next_row] : 0.0f;

  const int before = sorted.token_at(begin - 1), long_ago = sorted.token_at(begin - part_rows - 1);
  const int after_next = sorted.token_at(end + part_rows);

  const int first_token = __shfl_sync(kAll, my_token, 0), last_token = __shfl_sync(kAll, my_token, own - 1);
  const int after = __shfl_sync(kAll, next_token, 0);
  const bool begun_before = before == first_token, goes_on = after == last_token;
  const bool long_before = begun_before && (long_ago == first_token || after == first_token);
  const bool long_after = goes_on && (after_next == last_token || (long_before && first_token == last_token));
  const unsigned of_first = __ballot_sync(kAll, my_token == first_token);
  const unsigned of_last = __ballot_sync(kAll, my_token == last_token);
  const unsigned beyond = __ballot_sync(kAll, next_token == last_token);
  const int first = begun_before && !long_before ? __popc(of_first) : 0;
  const int last = goes_on && !long_after && first < own ? own + __popc(beyond) : own;
  const int last_run = own - __popc(of_last);                 // its first row
  const int token_above = __shfl_up_sync(kAll, my_token, 1);  // its own in the first lane
  // Bit i: a run begins with row i.
  const unsigned begins = __ballot_sync(kAll, has_row && my_token != token_above) | 1u << first % kWarp;

  float sum[kVectors][kVector];
  float* target = nullptr;
  for (int i = first; i < last; ++i) {
    const bool here = i < own;
    const int from = here ? i : i - own;
    const std::int64_t row = __shfl_sync(kAll, here ? my_row : next_row, from);
    const float r = __shfl_sync(kAll, here ? my_rstd : next_rstd, from);
    GradientRow<kVectors, kTwo> loaded;
    load_row(loaded, dx, dx0, x, row * count, count);
    if (here && (begins >> i & 1u) != 0) {
      const bool head = long_before && i == 0, tail = long_after && i == last_run;
      if (head || tail) {
        target = partial + (2 * part + (head ? 0 : 1)) * C;
#pragma unroll
        for (int k = 0; k < kVectors * kVector; ++k) sum[k / kVector][k % kVector] = 0;
      } else {
        target = dwte + static_cast<std::int64_t>(__shfl_sync(kAll, my_token, i)) * C;
        load_sum(sum, target, count);
      }
    }
    add_row(sum, loaded, r, count, C);
    const bool ends = i + 1 == last || (i + 1 < own && (begins >> (i + 1) & 1u) != 0);
    if (ends) store_sum(target, sum, count);
  }
}

// The last part of the long run that begins in `part`; `part` where there is none.
__device__ __forceinline__ int last_part_of_run(const SortedRows& sorted, int part, int parts,
                                                int part_rows) {
  const int begin = part * part_rows, after_next = begin + 2 * part_rows;
  if (after_next >= sorted.rows) return part;
  const int token = sorted.token_at(begin + part_rows - 1);
  if (sorted.token_at(after_next) != token || sorted.token_at(begin - 1) == token) return part;
  int last = part + 2, beyond = parts;  // it is in [last, beyond)
  while (beyond - last > 1) {
    const int middle = (last + beyond) / 2;
    (sorted.token_at(middle * part_rows) == token ? last : beyond) = middle;
  }
  return last;
}

// One block per kLongRunParts parts. For each in which a long run begins it adds the run's sums: of this part, of the parts that
// the run fills, of the part in which it ends.
__global__ void __launch_bounds__(kLongRunThreads)
    embedding_long_runs_kernel(float* __restrict__ dwte, const float* __restrict__ partial,
                               const SortedRows sorted, int parts, int C, int part_rows) {
  __shared__ int last_parts[kLongRunParts];
  const int first_part = blockIdx.x * kLongRunParts, here = min(kLongRunParts, parts - first_part);
  if (threadIdx.x < here)
    last_parts[threadIdx.x] = last_part_of_run(sorted, first_part + threadIdx.x, parts, part_rows);
  __syncthreads();
  const float4* sums = reinterpret_cast<const float4*>(partial);
  const std::int64_t quads = C / kFloats;
  for (int i = 0; i < here; ++i) {
    const std::int64_t first = first_part + i, last = last_parts[i];
    if (last == first) continue;
    const std::int64_t token = sorted.token_at(static_cast<int>(first + 1) * part_rows);
    for (int column = threadIdx.x; column < quads; column += kLongRunThreads) {
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
  const SortedRows sorted = {tokens, order, rows};
  with_row_vectors(C, [&](auto count) {
    const auto kernel =
        dx0 != nullptr ? embedding_runs_kernel<count(), true> : embedding_runs_kernel<count(), false>;
    kernel<<<ceil_div(parts, kRowsPerBlock), kRowThreads, 0, device.stream()>>>(
        dwte, partial, vectors(dx), dx0 != nullptr ? vectors(dx0) : nullptr, vectors(x), rstd, sorted, C,
        part_rows);
  });
  LAUNCH_CHECK();
  embedding_long_runs_kernel<<<ceil_div(parts, kLongRunParts), kLongRunThreads, 0, device.stream()>>>(
      dwte, partial, sorted, parts, C, part_rows);
  LAUNCH_CHECK();
}

}  // namespace spillway
