// Token embedding with RMS norm. Backward sorts the rows by token and sums each token's rows in that order, so that the
// result does not depend on the order in which blocks run: no atomics.
//
// A run of equal tokens may be as long as the batch (one token everywhere) or one row. Chunks of kChunk sorted rows keep
// the work per block even: runs inside a chunk are added to dwte at once; a run that touches a chunk's border leaves a
// partial sum, and the block of the chunk in which the run begins adds up the partials in order.
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/rows.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kChunk = 64;
constexpr int kChunkThreads = 256;

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

__global__ void row_numbers_kernel(std::int32_t* numbers, int rows) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < rows) numbers[row] = row;
}

// Whether the run of equal tokens in sorted places [begin, end) of a chunk goes on beyond the chunk's borders.
struct RunBorders {
  bool begun_before, goes_on;
};

__device__ __forceinline__ RunBorders run_borders(const std::int32_t* sorted, int begin, int end,
                                                  int chunk_begin, int chunk_end, int rows) {
  return {begin == chunk_begin && begin > 0 && sorted[begin - 1] == sorted[begin],
          end == chunk_end && end < rows && sorted[end] == sorted[begin]};
}

// One block per chunk. partial: (chunks, 2, C): the sum of the run that began before the chunk, and of the one that goes
// on after it.
__global__ void __launch_bounds__(kChunkThreads)
    embedding_runs_kernel(float* __restrict__ dwte, float* __restrict__ partial, const uint4* __restrict__ dx,
                          const uint4* __restrict__ x, const float* __restrict__ rstd,
                          const std::int32_t* __restrict__ sorted, const std::int32_t* __restrict__ order,
                          int rows, int C) {
  __shared__ float means[kChunk];
  const int count = C / kVector;
  const int chunk_begin = blockIdx.x * kChunk, chunk_end = min(chunk_begin + kChunk, rows);
  for (int i = chunk_begin + threadIdx.x / kWarp; i < chunk_end; i += kChunkThreads / kWarp) {
    const std::int64_t base = static_cast<std::int64_t>(order[i]) * count;
    float dot = 0;
    for (int column = threadIdx.x % kWarp; column < count; column += kWarp)
      dot += dot_product(dx[base + column], x[base + column]);
    dot = lane_sum(dot);
    if (threadIdx.x % kWarp == 0) means[i - chunk_begin] = dot / static_cast<float>(C);
  }
  __syncthreads();
  for (int column = threadIdx.x; column < count; column += kChunkThreads) {
    float sum[kVector] = {};
    int begin = chunk_begin;
    for (int i = chunk_begin; i < chunk_end; ++i) {
      const int row = order[i];
      const std::int64_t place = static_cast<std::int64_t>(row) * count + column;
      float gradient[kVector], value[kVector];
      unpack(gradient, dx[place]);
      unpack(value, x[place]);
      const float r = rstd[row], mean = means[i - chunk_begin];
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum[j] += r * (gradient[j] - value[j] * mean);
      if (i + 1 < chunk_end && sorted[i + 1] == sorted[i]) continue;
      const RunBorders borders = run_borders(sorted, begin, i + 1, chunk_begin, chunk_end, rows);
      const std::int64_t chunk = blockIdx.x;
      const bool whole = !borders.begun_before && !borders.goes_on;
      float* target = whole                  ? dwte + static_cast<std::int64_t>(sorted[i]) * C
                      : borders.begun_before ? partial + 2 * chunk * C
                                             : partial + (2 * chunk + 1) * C;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        float& element = target[column * kVector + j];
        element = whole ? element + sum[j] : sum[j];
        sum[j] = 0;
      }
      begin = i + 1;
    }
  }
}

// The block of the chunk in which a run begins that goes on adds its parts: the tail of this chunk, the whole chunks
// between, the head of the last.
__global__ void __launch_bounds__(kChunkThreads)
    embedding_borders_kernel(float* __restrict__ dwte, const float* __restrict__ partial,
                             const std::int32_t* __restrict__ sorted, int rows, int C) {
  const int chunk_begin = blockIdx.x * kChunk, next = chunk_begin + kChunk;
  if (next >= rows) return;
  const int token = sorted[next - 1];
  const bool goes_on = sorted[next] == token;
  const bool begins_here =
      sorted[chunk_begin] != token || chunk_begin == 0 || sorted[chunk_begin - 1] != token;
  if (!goes_on || !begins_here) return;
  const std::int64_t first = blockIdx.x;
  for (int column = threadIdx.x; column < C; column += kChunkThreads) {
    float sum = partial[(2 * first + 1) * C + column];
    for (std::int64_t chunk = first + 1; chunk * kChunk < rows && sorted[chunk * kChunk] == token; ++chunk)
      sum += partial[2 * chunk * C + column];
    dwte[static_cast<std::int64_t>(token) * C + column] += sum;
  }
}

// Splits the device's workspace.
class Carver {
 public:
  explicit Carver(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(std::size_t count) {
    T* part = reinterpret_cast<T*>(memory_ + used_);
    used_ += (count * sizeof(T) + 255) / 256 * 256;
    return part;
  }
  std::size_t used() const { return used_; }

 private:
  char* memory_;
  std::size_t used_ = 0;
};

int bits_of(int values) {
  int bits = 1;
  while (bits < 31 && (1 << bits) < values) ++bits;
  return bits;
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

void embedding_norm_backward(Cuda& device, float* dwte, const bf16* dx, const bf16* x, const float* rstd,
                             const std::int32_t* tokens, int rows, int C, int V) {
  SHAPE_CHECK(C > 0 && C % kVector == 0, "the width must be a multiple of 8");
  const int chunks = ceil_div(rows, kChunk);
  std::size_t sort_bytes = 0;
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, sort_bytes, tokens, static_cast<std::int32_t*>(nullptr),
                                             static_cast<const std::int32_t*>(nullptr),
                                             static_cast<std::int32_t*>(nullptr), rows, 0, bits_of(V)));
  Carver carver(device.workspace(0));
  auto* sorted = carver.take<std::int32_t>(rows);
  auto* numbers = carver.take<std::int32_t>(rows);
  auto* order = carver.take<std::int32_t>(rows);
  auto* partial = carver.take<float>(std::size_t{2} * chunks * C);
  auto* sort_memory = carver.take<char>(sort_bytes);
  (void)device.workspace(carver.used());  // throws where the parts do not fit
  row_numbers_kernel<<<ceil_div(rows, 256), 256, 0, device.stream()>>>(numbers, rows);
  LAUNCH_CHECK();
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(sort_memory, sort_bytes, tokens, sorted, numbers, order, rows, 0,
                                             bits_of(V), device.stream()));
  embedding_runs_kernel<<<chunks, kChunkThreads, 0, device.stream()>>>(dwte, partial, vectors(dx), vectors(x),
                                                                       rstd, sorted, order, rows, C);
  LAUNCH_CHECK();
  embedding_borders_kernel<<<chunks, kChunkThreads, 0, device.stream()>>>(dwte, partial, sorted, rows, C);
  LAUNCH_CHECK();
}

}  // namespace spillway
