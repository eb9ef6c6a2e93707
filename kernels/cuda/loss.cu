// Softcapped cross entropy. |z| ≤ 15, so the sum of exponentials needs no maximum: a row is summed, then overwritten with
// its gradient.
//
// One block of 1024 threads per multiprocessor keeps rows in shared memory between the two passes, so that logits cross the
// device's memory once each way. Each thread loads, sums and overwrites the same 16-byte vectors of every row: it waits
// for its own background copies alone, and while it overwrites one row the vectors of the next arrive in the places that
// become free. 13 vectors per thread are 208 KiB of the 227 there are; a row of 65,536 logits takes 8 of them.
//
// Up to |u| = 22.5 (where z = 13.6) log2 of exp(15·tanh(u/15)) is a polynomial in u², fitted for the least largest relative
// error; one exponential per logit and pass is all that the special-function units do. (Three in the first pass and two
// in the second took as long as the memory did; times in README.md.)
#include "kernels/cuda/common.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 1024;
constexpr int kSlots = 13;          // vectors in shared memory per thread
constexpr int kMostRowVectors = 8;  // of one row per thread: 65,536 logits
constexpr std::size_t kSharedBytes = std::size_t{kSlots} * kThreads * sizeof(uint4);
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kPolynomialRange = 22.5f;

// tanh(u/15) = 1 − 2/(1 + exp(2u/15)); the limits ±1 come out right where the exponential overflows.
__device__ __forceinline__ float capped_tanh(float u) {
  const float exponential = ptx::exp2_fast(u * (2.0f * kLog2E / kLogitSoftcap));
  return 1.0f - __fdividef(2.0f, 1.0f + exponential);
}

__device__ __forceinline__ float exp_of_capped(float tanh) {
  return ptx::exp2_fast(tanh * (kLogitSoftcap * kLog2E));
}

// log2(exp(z)) = 15·tanh(u/15)·log2(e) for |u| ≤ 22.5; exp(z) has a relative error of 4e-6.
__device__ __forceinline__ float log2_of_capped(float u) {
  const float s = u * u;
  float sum = fmaf(5.60849071e-24f, s, -1.58398017e-20f);
  sum = fmaf(sum, s, 2.08191362e-17f);
  sum = fmaf(sum, s, -1.76817565e-14f);
  sum = fmaf(sum, s, 1.16323732e-11f);
  sum = fmaf(sum, s, -6.77481292e-09f);
  sum = fmaf(sum, s, 3.79688663e-06f);
  sum = fmaf(sum, s, -0.00213727486f);
  return u * fmaf(sum, s, 1.44269488f);
}

// The same with a relative error of 4e-4 in exp(z): enough for a bf16 gradient.
__device__ __forceinline__ float coarse_log2_of_capped(float u) {
  const float s = u * u;
  float sum = fmaf(-2.74388773e-15f, s, 5.66593517e-12f);
  sum = fmaf(sum, s, -5.48847998e-09f);
  sum = fmaf(sum, s, 3.66104046e-06f);
  sum = fmaf(sum, s, -0.00213176567f);
  return u * fmaf(sum, s, 1.4426573f);
}

// Σ exp(z) of a vector; within_range: whether the polynomial holds for all of it. A NaN gives NaN either way.
__device__ __forceinline__ float sum_of_exponentials(const uint4& packed, bool& within_range) {
  float u[kVector], largest = 0, sum = 0;
  unpack(u, packed);
#pragma unroll
  for (int j = 0; j < kVector; ++j) largest = fmaxf(largest, fabsf(u[j]));
  within_range = largest <= kPolynomialRange;
  if (within_range) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += ptx::exp2_fast(log2_of_capped(u[j]));
  } else {
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += exp_of_capped(capped_tanh(u[j]));
  }
  return sum;
}

// factor·exp(z)·(1 − (z/15)²)
__device__ __forceinline__ void softmax_gradient(float (&u)[kVector], float factor, bool within_range) {
  constexpr float kSquareToTanh = 1.0f / (kLogitSoftcap * kLog2E * kLogitSoftcap * kLog2E);
  if (within_range) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float x = coarse_log2_of_capped(u[j]);
      u[j] = ptx::exp2_fast(x) * factor * fmaf(x * x, -kSquareToTanh, 1.0f);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float tanh = capped_tanh(u[j]);
      u[j] = exp_of_capped(tanh) * factor * (1.0f - tanh * tanh);
    }
  }
}

// This thread's vectors threadIdx.x, threadIdx.x + 1024, … of the rows blockIdx.x, blockIdx.x + gridDim.x, …, in a ring of
// kSlots places.
template <int kRowVectors>
class RowRing {
 public:
  __device__ RowRing(uint4* shared, const uint4* logits, int rows, int vectors_per_row)
      : shared_(shared + threadIdx.x),
        logits_(logits),
        rows_(rows),
        vectors_per_row_(vectors_per_row),
        load_row_(blockIdx.x) {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) load_next();
  }

  // Waits for the current row.
  __device__ void wait() const { ptx::copy_async_wait<kSlots - kRowVectors>(); }

  __device__ uint4 vector(int j) const { return shared_[place(j) * kThreads]; }

  // The current row's vectors are done with from the first on: loads into the place of the j-th.
  __device__ void replace() { load_next(); }

  __device__ void next_row() { first_ = place(kRowVectors); }

 private:
  __device__ int place(int j) const { return first_ + j < kSlots ? first_ + j : first_ + j - kSlots; }

  // One group of copies each time, empty after the last row, so that wait() can count them.
  __device__ void load_next() {
    const int column = threadIdx.x + load_vector_ * kThreads;
    const bool exists = load_row_ < rows_ && column < vectors_per_row_;
    const uint4* source =
        exists ? logits_ + static_cast<std::int64_t>(load_row_) * vectors_per_row_ + column : logits_;
    ptx::copy_async_16(ptx::shared_address(shared_ + load_place_ * kThreads), source, exists);
    ptx::copy_async_commit();
    load_place_ = load_place_ + 1 < kSlots ? load_place_ + 1 : 0;
    if (++load_vector_ < kRowVectors) return;
    load_vector_ = 0;
    load_row_ += gridDim.x;
  }

  uint4* shared_;
  const uint4* logits_;
  int rows_, vectors_per_row_;
  int load_row_, load_vector_ = 0, load_place_ = 0;  // what is loaded next, and where to
  int first_ = 0;                                    // place of the current row's first vector
};

// What a row needs beside its vectors, of its target: softmax_term = exp(z)·(1 − (z/15)²), target_term = dscale·(1 − (z/15)²).
struct RowTarget {
  int index;  // −1: none
  float capped, softmax_term, target_term;
};

__device__ __forceinline__ RowTarget row_target(const bf16* row, int index, float dscale) {
  if (index < 0) return {index, 0.0f, 0.0f, 0.0f};
  const float tanh = capped_tanh(load_bf16(row + index));
  const float slope = 1.0f - tanh * tanh;
  return {index, kLogitSoftcap * tanh, exp_of_capped(tanh) * slope, dscale * slope};
}

template <int kRowVectors>
__global__ void __launch_bounds__(kThreads, 1)
    softcap_cross_entropy_kernel(float* __restrict__ losses, uint4* logits,
                                 const std::int32_t* __restrict__ targets, float dscale, int rows, int V) {
  extern __shared__ uint4 slots[];
  __shared__ float shared[kWarp];
  const int vectors_per_row = V / kVector;
  RowRing<kRowVectors> ring(slots, logits, rows, vectors_per_row);
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    uint4* row_vectors = logits + static_cast<std::int64_t>(row) * vectors_per_row;
    const RowTarget target = row_target(reinterpret_cast<const bf16*>(row_vectors), targets[row], dscale);
    ring.wait();
    float sum = 0;
    unsigned within_range = 0;  // one bit per vector
#pragma unroll
    for (int j = 0; j < kRowVectors; ++j) {
      if (threadIdx.x + j * kThreads >= vectors_per_row) break;
      bool within = false;
      sum += sum_of_exponentials(ring.vector(j), within);
      within_range |= static_cast<unsigned>(within) << j;
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) losses[row] = target.index < 0 ? 0.0f : logf(sum) - target.capped;
    const float factor = dscale / sum;
#pragma unroll
    for (int j = 0; j < kRowVectors; ++j) {
      const int column = threadIdx.x + j * kThreads;
      if (dscale != 0 && column < vectors_per_row) {
        float u[kVector];
        unpack(u, ring.vector(j));
        softmax_gradient(u, factor, (within_range >> j & 1) != 0);
        row_vectors[column] = target.index < 0 ? make_uint4(0, 0, 0, 0) : pack(u);
        // Not in u: an element chosen at run time would keep the whole array out of the registers.
        if (target.index >= 0 && column == target.index / kVector)
          reinterpret_cast<bf16*>(row_vectors)[target.index] =
              store_bf16(target.softmax_term * factor - target.target_term);
      }
      ring.replace();
    }
    ring.next_row();
  }
}

// Rows that are not whole vectors, not aligned to them or longer than the ring: one block per row, element by element.
__global__ void __launch_bounds__(kThreads)
    softcap_cross_entropy_odd_kernel(float* __restrict__ losses, bf16* logits,
                                     const std::int32_t* __restrict__ targets, float dscale, int V) {
  __shared__ float shared[kWarp];
  bf16* row = logits + static_cast<std::int64_t>(blockIdx.x) * V;
  const RowTarget target = row_target(row, targets[blockIdx.x], dscale);
  float sum = 0;
  for (int i = threadIdx.x; i < V; i += kThreads) sum += exp_of_capped(capped_tanh(load_bf16(row + i)));
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) losses[blockIdx.x] = target.index < 0 ? 0.0f : logf(sum) - target.capped;
  if (dscale == 0) return;
  for (int i = threadIdx.x; i < V; i += kThreads) {
    const float tanh = capped_tanh(load_bf16(row + i));
    const float gradient = exp_of_capped(tanh) * (dscale / sum) * (1.0f - tanh * tanh);
    row[i] = store_bf16(target.index < 0 ? 0.0f : gradient - (i == target.index ? target.target_term : 0.0f));
  }
}

template <int kRowVectors>
void launch(Cuda& device, float* losses, bf16* logits, const std::int32_t* targets, float dscale, int rows,
            int V) {
  const auto kernel = softcap_cross_entropy_kernel<kRowVectors>;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  const int blocks = rows < device.multiprocessors() ? rows : device.multiprocessors();
  kernel<<<blocks, kThreads, kSharedBytes, device.stream()>>>(losses, vectors(logits), targets, dscale, rows,
                                                              V);
}

}  // namespace

void softcap_cross_entropy(Cuda& device, float* losses, bf16* logits, const std::int32_t* targets,
                           float dscale, int rows, int V) {
  const int row_vectors = ceil_div(V, kVector * kThreads);
  if (V % kVector != 0 || !is_aligned(logits, 16) || row_vectors > kMostRowVectors)
    softcap_cross_entropy_odd_kernel<<<rows, kThreads, 0, device.stream()>>>(losses, logits, targets, dscale,
                                                                             V);
  else if (row_vectors == 1)
    launch<1>(device, losses, logits, targets, dscale, rows, V);
  else if (row_vectors == 2)
    launch<2>(device, losses, logits, targets, dscale, rows, V);
  else if (row_vectors <= 4)
    launch<4>(device, losses, logits, targets, dscale, rows, V);
  else
    launch<kMostRowVectors>(device, losses, logits, targets, dscale, rows, V);
  LAUNCH_CHECK();
}

}  // namespace spillway
