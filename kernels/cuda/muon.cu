// Muon on a batch of contiguous matrices. The iteration is three strided-batched products per turn and nothing between:
//   A = X·Xᵀ ;  B = c·A·A + b·A ;  X' = B·X + a·X        (rows ≤ cols; otherwise A = Xᵀ·X and X' = X·B + a·X)
// The elementwise work around it is fused into five kernels that read each tensor once.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm.hpp"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 256;
constexpr int kQuad = 4;       // elements per thread and turn
constexpr int kPartials = 64;  // blocks per matrix that leave a partial sum of squares
constexpr int kColumnTile = 64;
constexpr int kBalanceThreads = 1024;

struct Coefficients {
  float a, b, c;
};
// Polar Express, arXiv 2505.16932.
constexpr std::array<Coefficients, 5> kPolarExpress = {
    {{8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
     {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
     {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
     {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
     {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f}}};

__device__ __forceinline__ void unpack(float (&values)[kQuad], uint2 packed) {
  values[0] = bf16_low(packed.x), values[1] = bf16_high(packed.x);
  values[2] = bf16_low(packed.y), values[3] = bf16_high(packed.y);
}

__device__ __forceinline__ uint2 pack(const float (&values)[kQuad]) {
  return make_uint2(ptx::pack_bf16(values[0], values[1]), ptx::pack_bf16(values[2], values[3]));
}

// B = μB + (1−μ)g ;  X = bf16((1−μ)g + μB), and a part of ‖X‖² per block. One matrix of `quads`·4 elements per blockIdx.y.
__global__ void __launch_bounds__(kThreads)
    momentum_kernel(uint2* __restrict__ X, float* __restrict__ partial, float4* __restrict__ momentum,
                    const float4* __restrict__ g, float mu, const float* gate_total, int quads) {
  if (!isfinite(*gate_total)) return;
  __shared__ float shared[kWarp];
  const std::int64_t base = static_cast<std::int64_t>(blockIdx.y) * quads;
  float squares = 0;
#pragma unroll 2
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < quads; i += kPartials * kThreads) {
    const float4 gradient4 = g[base + i], buffer4 = momentum[base + i];
    const float gradient[kQuad] = {gradient4.x, gradient4.y, gradient4.z, gradient4.w};
    float buffer[kQuad] = {buffer4.x, buffer4.y, buffer4.z, buffer4.w}, values[kQuad];
#pragma unroll
    for (int j = 0; j < kQuad; ++j) {
      buffer[j] = mu * buffer[j] + (1.0f - mu) * gradient[j];
      values[j] = (1.0f - mu) * gradient[j] + mu * buffer[j];
    }
    momentum[base + i] = make_float4(buffer[0], buffer[1], buffer[2], buffer[3]);
    const uint2 rounded = pack(values);
    X[base + i] = rounded;
    unpack(values, rounded);
#pragma unroll
    for (int j = 0; j < kQuad; ++j) squares += values[j] * values[j];
  }
  squares = block_sum(squares, shared);
  if (threadIdx.x == 0) partial[blockIdx.y * kPartials + blockIdx.x] = squares;
}

// X /= 1.02·‖X‖ + 1e-6
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(uint2* __restrict__ X, const float* __restrict__ partial, const float* gate_total,
                     int quads) {
  if (!isfinite(*gate_total)) return;
  static_assert(kPartials == 2 * kWarp);
  const int lane = threadIdx.x % kWarp;
  const float* parts = partial + blockIdx.y * kPartials;
  const float factor = 1.0f / (1.02f * sqrtf(lane_sum(parts[lane] + parts[lane + kWarp])) + 1e-6f);
  uint2* matrix = X + static_cast<std::int64_t>(blockIdx.y) * quads;
#pragma unroll 4
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < quads; i += kPartials * kThreads) {
    float values[kQuad];
    unpack(values, matrix[i]);
#pragma unroll
    for (int j = 0; j < kQuad; ++j) values[j] *= factor;
    matrix[i] = pack(values);
  }
}

// mean_square[matrix, r] = mean over columns of X². One warp per row.
__global__ void __launch_bounds__(kThreads)
    row_mean_square_kernel(float* __restrict__ mean_square, const bf16* __restrict__ X, std::int64_t all_rows,
                           int cols) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= all_rows) return;
  float squares = 0;
  for (int column = threadIdx.x % kWarp; column < cols; column += kWarp) {
    const float value = load_bf16(X + row * cols + column);
    squares += value * value;
  }
  squares = lane_sum(squares);
  if (threadIdx.x % kWarp == 0) mean_square[row] = squares / static_cast<float>(cols);
}

// mean_square[matrix, c] = mean over rows of X². Blocks of (64 columns) × (4 groups of rows).
__global__ void __launch_bounds__(kThreads)
    column_mean_square_kernel(float* __restrict__ mean_square, const bf16* __restrict__ X, int rows,
                              int cols) {
  constexpr int kGroups = kThreads / kColumnTile;
  __shared__ float sums[kGroups][kColumnTile];
  const int local = threadIdx.x % kColumnTile, group = threadIdx.x / kColumnTile;
  const int column = blockIdx.x * kColumnTile + local;
  const bf16* matrix = X + static_cast<std::int64_t>(blockIdx.y) * rows * cols;
  float squares = 0;
  if (column < cols)
#pragma unroll 8
    for (int row = group; row < rows; row += kGroups) {
      const float value = load_bf16(matrix + static_cast<std::int64_t>(row) * cols + column);
      squares += value * value;
    }
  sums[group][local] = squares;
  __syncthreads();
  if (group != 0 || column >= cols) return;
  for (int other = 1; other < kGroups; ++other) squares += sums[other][local];
  mean_square[static_cast<std::int64_t>(blockIdx.y) * cols + column] = squares / static_cast<float>(rows);
}

// NorMuon, one block per matrix: S = β2·S + (1−β2)·vm ;  s = 1/√max(S, 1e-10) ;  vm becomes the factor of its row or
// column, s·‖X‖/max(√Σ(vm·n·s²), 1e-10). `n` elements were averaged into each of the `kept` values.
__global__ void __launch_bounds__(kBalanceThreads)
    balance_kernel(float* __restrict__ mean_square, float* __restrict__ variance, float beta2,
                   const float* gate_total, int kept, int n) {
  if (!isfinite(*gate_total)) return;
  __shared__ float shared[kWarp];
  float* vm = mean_square + static_cast<std::int64_t>(blockIdx.x) * kept;
  float* state = variance + static_cast<std::int64_t>(blockIdx.x) * kept;
  float before = 0, after = 0;
  for (int i = threadIdx.x; i < kept; i += kBalanceThreads) {
    state[i] = beta2 * state[i] + (1.0f - beta2) * vm[i];
    const float squares = vm[i] * static_cast<float>(n);
    before += squares;
    after += squares / fmaxf(state[i], 1e-10f);
  }
  before = block_sum(before, shared);
  after = block_sum(after, shared);
  const float factor = sqrtf(before) / fmaxf(sqrtf(after), 1e-10f);
  for (int i = threadIdx.x; i < kept; i += kBalanceThreads) vm[i] = rsqrtf(fmaxf(state[i], 1e-10f)) * factor;
}

// X ← X·factor ;  P ← P − ηX − η·wd·P·[X·P ≥ 0].  One matrix per blockIdx.y.
__global__ void __launch_bounds__(kThreads)
    muon_parameters_kernel(float4* __restrict__ p, uint2* __restrict__ compute_copy,
                           const uint2* __restrict__ X, const float* __restrict__ factors, float eta,
                           float weight_decay, const float* gate_total, int rows, int cols,
                           bool factor_per_row) {
  if (!isfinite(*gate_total)) return;
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int quads_per_row = cols / kQuad;
  if (i >= rows * quads_per_row) return;
  const int row = i / quads_per_row, column = (i - row * quads_per_row) * kQuad;
  const float* matrix_factors =
      factors + static_cast<std::int64_t>(blockIdx.y) * (factor_per_row ? rows : cols);
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.y) * rows * quads_per_row + i;
  const float4 old = p[place];
  float values[kQuad] = {old.x, old.y, old.z, old.w}, update[kQuad];
  unpack(update, X[place]);
#pragma unroll
  for (int j = 0; j < kQuad; ++j) {
    update[j] *= matrix_factors[factor_per_row ? row : column + j];
    const float decay = update[j] * values[j] >= 0 ? weight_decay * values[j] : 0.0f;
    values[j] -= eta * (update[j] + decay);
  }
  p[place] = make_float4(values[0], values[1], values[2], values[3]);
  if (compute_copy != nullptr) compute_copy[place] = pack(values);
}

// Five turns of the iteration, from X; returns which of the two buffers holds the result.
bf16* orthogonalize(Cuda& device, bf16* X, bf16* other, bf16* A, bf16* B, int count, int rows, int cols) {
  const bool tall = rows > cols;
  const int small = tall ? cols : rows, large = tall ? rows : cols;
  const Gemm gram = {small, small, large, tall, !tall, false, count};
  const Gemm square = {small, small, small, false, false, false, count};
  const Gemm apply = {rows, cols, small, false, false, false, count};
  for (const auto& [a, b, c] : kPolarExpress) {
    gemm(device, gram, 1.0f, X, X, 0.0f, A, A);
    gemm(device, square, c, A, A, b, A, B);
    gemm(device, apply, 1.0f, tall ? X : B, tall ? B : X, a, X, other);
    std::swap(X, other);
  }
  return X;
}

}  // namespace

void muon_update(Cuda& device, float* p, bf16* compute_copy, float* momentum, float* variance, float* g,
                 float* workspace, const MuonStep& step, const float* gate_total, int count, int rows,
                 int cols) {
  SHAPE_CHECK(cols % kQuad == 0, "Muon needs matrices whose rows are multiples of 4 elements");
  SHAPE_CHECK(is_aligned(p, 16) && is_aligned(momentum, 16) && is_aligned(g, 16) &&
                  is_aligned(workspace, 16) && is_aligned(compute_copy, 8),
              "Muon needs 16-byte aligned matrices");
  const std::int64_t size = static_cast<std::int64_t>(rows) * cols;
  const int quads = static_cast<int>(size / kQuad);
  const std::int64_t small = rows < cols ? rows : cols;
  // The workspace is counted in floats; bf16 matrices use half of what they are given.
  auto* X = reinterpret_cast<bf16*>(workspace);
  auto* other = reinterpret_cast<bf16*>(workspace + count * size);
  auto* A = reinterpret_cast<bf16*>(workspace + 2 * count * size);
  auto* B = reinterpret_cast<bf16*>(workspace + 2 * count * size + count * small * small);
  auto* partial = static_cast<float*>(device.workspace(sizeof(float) * count * kPartials));
  const dim3 blocks(kPartials, count);
  momentum_kernel<<<blocks, kThreads, 0, device.stream()>>>(
      reinterpret_cast<uint2*>(X), partial, reinterpret_cast<float4*>(momentum),
      reinterpret_cast<const float4*>(g), step.momentum, gate_total, quads);
  LAUNCH_CHECK();
  normalize_kernel<<<blocks, kThreads, 0, device.stream()>>>(reinterpret_cast<uint2*>(X), partial, gate_total,
                                                             quads);
  LAUNCH_CHECK();
  const bf16* update = orthogonalize(device, X, other, A, B, count, rows, cols);

  const bool per_row = rows >= cols;
  const int kept = per_row ? rows : cols;
  auto* factors = static_cast<float*>(device.workspace(sizeof(float) * count * kept));
  if (per_row)
    row_mean_square_kernel<<<ceil_div(static_cast<std::int64_t>(count) * rows, kThreads / kWarp), kThreads, 0,
                             device.stream()>>>(factors, update, static_cast<std::int64_t>(count) * rows,
                                                cols);
  else
    column_mean_square_kernel<<<dim3(ceil_div(cols, kColumnTile), count), kThreads, 0, device.stream()>>>(
        factors, update, rows, cols);
  LAUNCH_CHECK();
  balance_kernel<<<count, kBalanceThreads, 0, device.stream()>>>(factors, variance, step.beta2, gate_total,
                                                                 kept, per_row ? cols : rows);
  LAUNCH_CHECK();
  const float eta =
      step.learning_rate * std::sqrt(std::max(1.0f, static_cast<float>(rows) / static_cast<float>(cols)));
  muon_parameters_kernel<<<dim3(ceil_div(quads, kThreads), count), kThreads, 0, device.stream()>>>(
      reinterpret_cast<float4*>(p), reinterpret_cast<uint2*>(compute_copy),
      reinterpret_cast<const uint2*>(update), factors, eta, step.weight_decay, gate_total, rows, cols,
      per_row);
  LAUNCH_CHECK();
}

}  // namespace spillway
