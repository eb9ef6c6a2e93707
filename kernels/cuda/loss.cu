// Softcapped cross entropy. |z| ≤ 15, so the sum of exponentials needs no maximum: a row is summed, then overwritten with
// its gradient.
//
// One block of 1024 threads per multiprocessor keeps rows in shared memory between the two passes, so that logits cross the
// device's memory once each way. Each thread loads, sums and overwrites the same 16-byte vectors of every row: it waits
// for its own background copies alone. 13 vectors per thread are 208 KiB of the 227 there are; a row of 65,536 logits
// takes 8 of them. The second pass over a row and the first over the next go along together, vector by vector, so that
// memory is busy all the time: when the j-th vector of the next row is summed, that of this row leaves, and the j+5th of
// the next row comes into its place.
//
// The kernel is bound by the instructions it issues. So the first pass, which has exp(z), also computes
// exp(z)·(1 − (z/15)²), and leaves it in the vector's place in shared memory for the second pass to scale: as fp16, whose
// rounding, at most 2⁻¹¹, comes before that to bf16, 2⁻⁸. (bf16 twice would err by 2⁻⁷.) One power of two per vector, from
// the sum of its exponentials, brings the largest between 2¹¹ and 2¹⁵, but for the slope: what is 2⁻²⁵ of it still has all
// 11 bits; what is less than 2⁻³⁶ of it may become 0.
//
// Of the SASS 195 instructions per vector are executed in rows of 65,536 logits, 24 per logit, 6 of them the polynomial;
// about 280 when the second pass computed everything again from the logits (1,617 µs per 16,384 rows, 63 % of the copy's rate,
// 2026-11-28, H200).
#include <type_traits>

#include "kernels/cuda/common.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 1024;
constexpr int kSlots = 13;          // vectors in shared memory per thread
constexpr int kMostRowVectors = 8;  // of one row per thread: 65,536 logits. The bytes of an ExponentQueue
constexpr std::size_t kSharedBytes = std::size_t{kSlots} * kThreads * sizeof(uint4);
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMostLog2 = kLogitSoftcap * kLog2E;
constexpr float kSquareToTanh = 1.0f / (kMostLog2 * kMostLog2);
constexpr float kPolynomialRange = 14.0f;

// tanh(u/15) = 1 − 2/(1 + exp(2u/15)); the limits ±1 come out right where the exponential overflows.
__device__ __forceinline__ float capped_tanh(float u) {
  const float exponential = ptx::exp2_fast(u * (2.0f * kLog2E / kLogitSoftcap));
  return 1.0f - __fdividef(2.0f, 1.0f + exponential);
}

__device__ __forceinline__ float exp_of_capped(float tanh) { return ptx::exp2_fast(tanh * kMostLog2); }

// log2(exp(z)) = 15·tanh(u/15)·log2(e) for |u| ≤ 14 (z = 11), a polynomial in u² fitted for the least largest error of exp(z):
// 2.7e-6 of it, in floats, over all bf16 there are. Logits beyond are few; up to 22.5 it would take two terms more.
__device__ __forceinline__ float log2_of_capped(float u) {
  const float s = u * u;
  float sum = fmaf(-8.08968049e-15f, s, 9.58458746e-12f);
  sum = fmaf(sum, s, -6.55235644e-09f);
  sum = fmaf(sum, s, 3.78474351e-06f);
  sum = fmaf(sum, s, -0.00213698065f);
  return u * fmaf(sum, s, 1.44269276f);
}

// What the first pass makes of a vector: Σ exp(z), and exp(z)·(1 − (z/15)²)/2^(exponent − 127 − 14) in fp16, where
// 2^(exponent − 127) ≤ sum < 2^(exponent − 126): below 2¹⁵. A NaN among the logits makes the sum NaN.
struct Exponentials {
  float sum;
  std::uint32_t exponent;
  uint4 halves;
};

__device__ __forceinline__ Exponentials exponentials(const uint4& packed) {
  float u[kVector], squares[kVector];  // u becomes exp(z); squares: of log2(exp(z))
  unpack(u, packed);
  float largest = fabsf(u[0]);
#pragma unroll
  for (int j = 1; j < kVector; ++j) largest = fmaxf(largest, fabsf(u[j]));
  if (largest <= kPolynomialRange) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float x = log2_of_capped(u[j]);
      squares[j] = x * x;
      u[j] = ptx::exp2_fast(x);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float x = capped_tanh(u[j]) * kMostLog2;
      squares[j] = x * x;
      u[j] = ptx::exp2_fast(x);
    }
  }
  const float sum = ((u[0] + u[1]) + (u[2] + u[3])) + ((u[4] + u[5]) + (u[6] + u[7]));
  const std::uint32_t power = __float_as_uint(sum) & 0x7f800000u;
  const float scale = __uint_as_float((268u << 23) - power);  // 2^(14 + 127 − exponent)
#pragma unroll
  for (int j = 0; j < kVector; ++j) u[j] *= fmaf(squares[j], -kSquareToTanh * scale, scale);
  return {sum, power >> 23,
          make_uint4(ptx::pack_f16(u[0], u[1]), ptx::pack_f16(u[2], u[3]), ptx::pack_f16(u[4], u[5]),
                     ptx::pack_f16(u[6], u[7]))};
}

// factor·halves in bf16.
__device__ __forceinline__ uint4 scaled(const uint4& halves, float factor) {
  float values[kVector];
  ptx::unpack_f16(values[0], values[1], halves.x);
  ptx::unpack_f16(values[2], values[3], halves.y);
  ptx::unpack_f16(values[4], values[5], halves.z);
  ptx::unpack_f16(values[6], values[7], halves.w);
#pragma unroll
  for (int j = 0; j < kVector; ++j) values[j] *= factor;
  return pack(values);
}

// Without an array: one whose index is known only at run time lies in local memory.
__device__ __forceinline__ float element(const uint4& packed, int i) {
  const std::uint32_t low = i & 2 ? packed.y : packed.x, high = i & 2 ? packed.w : packed.z;
  const std::uint32_t pair = i & 4 ? high : low;
  return i & 1 ? bf16_high(pair) : bf16_low(pair);
}

// The exponents of a row's vectors, one byte each, in the order of the vectors. One goes out for each that comes in, so it
// holds those of this row from the j-th on and those of the next before the j-th.
template <int kRowVectors>
class ExponentQueue {
 public:
  // 2^(exponent − 127)
  __device__ float pop() {
    const std::uint32_t exponent = static_cast<std::uint32_t>(bytes_) & 0xffu;
    bytes_ >>= 8;
    return __uint_as_float(exponent << 23);
  }
  __device__ void push(std::uint32_t exponent) {
    bytes_ |= static_cast<std::uint64_t>(exponent) << 8 * (kRowVectors - 1);
  }

 private:
  std::uint64_t bytes_ = 0;
};

// This thread's vectors threadIdx.x, threadIdx.x + 1024, … of the rows blockIdx.x, blockIdx.x + gridDim.x, …, in a ring of
// kSlots places. A row and the kAhead vectors after it are in the ring or on their way.
template <int kRowVectors>
class RowRing {
 public:
  // From so many vectors of a row on, what is loaded belongs to a later row than before.
  static constexpr int kNewRow = kRowVectors - (kSlots - kRowVectors) % kRowVectors;

  // The row before the first, of which there is nothing, is the current one.
  __device__ RowRing(const uint4* slots, const uint4* logits, int rows, int vectors_per_row)
      : first_place_(ptx::shared_address(slots + threadIdx.x)),
        logits_(logits),
        rows_(rows),
        vectors_per_row_(vectors_per_row),
        load_row_(blockIdx.x - gridDim.x) {
    ptx::forget(first_place_);
    new_load_row();
#pragma unroll 1
    for (int i = 0; i < kAhead; ++i) {
      if (i > 0 && i % kRowVectors == 0) new_load_row();
      load_next(first_place_ + i * kPlaceBytes);
    }
    if constexpr (kNewRow == kRowVectors) new_load_row();
  }

  // Shared addresses of the current row's next vector and of the one above it in the next row; of the latter after wait().
  __device__ std::uint32_t current() const { return first_place_ + offset_; }
  __device__ std::uint32_t next() const {
    return first_place_ + min(offset_ - kAhead * kPlaceBytes, offset_ + kRowVectors * kPlaceBytes);
  }
  __device__ void wait() const { ptx::copy_async_wait<kAhead - 1>(); }

  // current() is done with: loads into its place and goes on.
  __device__ void advance() {
    load_next(current());
    offset_ = min(offset_ + kPlaceBytes - kSlots * kPlaceBytes, offset_ + kPlaceBytes);
  }

  // To be called after the first kNewRow vectors of each row.
  __device__ void new_load_row() {
    load_row_ += gridDim.x;
    load_columns_ = load_row_ < rows_ ? vectors_per_row_ : 0;
    ptx::forget(load_columns_);
    load_from_ = logits_ + static_cast<std::int64_t>(load_row_) * vectors_per_row_;
    ptx::forget(load_from_);
    load_column_ = threadIdx.x;
  }

 private:
  static constexpr int kAhead = kSlots - kRowVectors;
  static constexpr std::uint32_t kPlaceBytes = kThreads * sizeof(uint4);

  // One group of copies each time, empty where there is no such vector, so that wait() can count them.
  __device__ void load_next(std::uint32_t place) {
    if (load_column_ < load_columns_) ptx::copy_async_16(place, load_from_ + load_column_);
    ptx::copy_async_commit();
    load_column_ += kThreads;
  }

  std::uint32_t first_place_;  // of this thread
  const uint4* logits_;
  int rows_, vectors_per_row_;
  int load_row_, load_column_ = 0, load_columns_ = 0;  // what is loaded next; columns: 0 beyond the last row
  const uint4* load_from_ = nullptr;
  // Of the current place in bytes. Around the ring by the smaller of two unsigned numbers: the wrong one is negative or
  // beyond the end.
  std::uint32_t offset_ = kAhead * kPlaceBytes;
};

// Of a row's target: softmax_term = exp(z)·(1 − (z/15)²), target_term = dscale·(1 − (z/15)²).
struct TargetTerms {
  float capped, softmax_term, target_term;
};

__device__ __forceinline__ TargetTerms target_terms(float logit, float dscale) {
  const float tanh = capped_tanh(logit);
  const float slope = 1.0f - tanh * tanh;
  return {kLogitSoftcap * tanh, exp_of_capped(tanh) * slope, dscale * slope};
}

template <int kRowVectors>
__global__ void __launch_bounds__(kThreads, 1)
    softcap_cross_entropy_kernel(float* __restrict__ losses, uint4* logits,
                                 const std::int32_t* __restrict__ targets, float dscale, int rows, int V) {
  constexpr float kFp16Power = 1.0f / 16384;  // 2⁻¹⁴, see Exponentials
  extern __shared__ uint4 slots[];
  __shared__ float warp_sums[2][kWarp];  // of the rows in turn: the next row's come while this one's are read
  __shared__ std::uint64_t summed_barrier;
  const std::uint32_t summed = ptx::shared_address(&summed_barrier);
  if (threadIdx.x == 0) ptx::barrier_init(summed, kThreads);
  __syncthreads();
  const int vectors_per_row = V / kVector, step = gridDim.x;
  RowRing<kRowVectors> ring(slots, logits, rows, vectors_per_row);
  ExponentQueue<kRowVectors> exponents;
  float target_logit = 0;  // of the thread whose vector has it
  int target = -1, next_target = targets[blockIdx.x];
  unsigned turn = 0;  // of warp_sums and the barrier: this row's
  for (int row = blockIdx.x - step; row < rows; row += step) {
    const bool has_row = row >= 0, has_next = row < rows - step;
    const int target_after = row < rows - 2 * step ? targets[row + 2 * step] : -1;
    int columns = has_row && dscale != 0 ? vectors_per_row : 0, next_columns = has_next ? vectors_per_row : 0;
    ptx::forget(columns);  // in registers, not computed again for each vector
    ptx::forget(next_columns);
    uint4* gradient = logits + static_cast<std::int64_t>(row) * vectors_per_row;
    const float logit = target_logit;
    float next_sum = 0, factor = 0;
    const auto vectors_of_both = [&](int begin, int end, auto with_sum) {
#pragma unroll 1
      for (int j = begin; j < end; ++j) {
        const int column = threadIdx.x + j * kThreads;
        const float power = exponents.pop();
        std::uint32_t next_exponent = 0;
        ring.wait();
        if (column < next_columns) {
          const std::uint32_t place = ring.next();
          const uint4 vector = ptx::load_shared_16(place);
          if (column == next_target >> 3) target_logit = element(vector, next_target & 7);
          const Exponentials result = exponentials(vector);
          ptx::store_shared_16(place, result.halves);
          next_sum += result.sum;
          next_exponent = result.exponent;
        }
        exponents.push(next_exponent);
        // Here, so that the warps need not wait for each other between two rows: each is one vector ahead of the sum.
        if (decltype(with_sum)::value && j == 0 && has_row) {
          ptx::barrier_wait(summed, turn);
          const float sum = lane_sum(warp_sums[turn][threadIdx.x % kWarp]);
          factor = target < 0 ? 0.0f : dscale / sum;
          if (threadIdx.x == (target < 0 ? 0 : target / kVector % kThreads))
            losses[row] = target < 0 ? 0.0f : logf(sum) - target_terms(logit, dscale).capped;
        }
        if (column < columns) {
          gradient[column] = scaled(ptx::load_shared_16(ring.current()), factor * kFp16Power * power);
          if (column == target >> 3) {
            const TargetTerms terms = target_terms(logit, dscale);
            reinterpret_cast<bf16*>(gradient)[target] =
                store_bf16(terms.softmax_term * factor - terms.target_term);
          }
        }
        ring.advance();
      }
    };
    vectors_of_both(0, ring.kNewRow, std::true_type());
    ring.new_load_row();
    vectors_of_both(ring.kNewRow, kRowVectors, std::false_type());
    if (has_next) {
      if (has_row) turn ^= 1;
      next_sum = lane_sum(next_sum);
      if (threadIdx.x % kWarp == 0) warp_sums[turn][threadIdx.x / kWarp] = next_sum;
      // All threads arrive, not only those that write: what each has read of the other half is read.
      ptx::barrier_arrive(summed);
    }
    target = next_target;
    next_target = target_after;
  }
}

// Rows that are not whole vectors, not aligned to them or longer than the ring: one block per row, element by element.
__global__ void __launch_bounds__(kThreads)
    softcap_cross_entropy_odd_kernel(float* __restrict__ losses, bf16* logits,
                                     const std::int32_t* __restrict__ targets, float dscale, int V) {
  __shared__ float shared[kWarp];
  bf16* row = logits + static_cast<std::int64_t>(blockIdx.x) * V;
  const int target = targets[blockIdx.x];
  const TargetTerms terms = target_terms(target < 0 ? 0.0f : load_bf16(row + target), dscale);
  float sum = 0;
  for (int i = threadIdx.x; i < V; i += kThreads) sum += exp_of_capped(capped_tanh(load_bf16(row + i)));
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) losses[blockIdx.x] = target < 0 ? 0.0f : logf(sum) - terms.capped;
  if (dscale == 0) return;
  for (int i = threadIdx.x; i < V; i += kThreads) {
    const float tanh = capped_tanh(load_bf16(row + i));
    const float gradient = exp_of_capped(tanh) * (dscale / sum) * (1.0f - tanh * tanh);
    row[i] = store_bf16(target < 0 ? 0.0f : gradient - (i == target ? terms.target_term : 0.0f));
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
