// Causal flash attention, backward, without atomics: one kernel owns keys and sums dk and dv over the queries, one owns
// queries and sums dq over the keys. Scores are computed in both (7 products instead of 5): the price of a result that
// does not depend on the order of blocks and of needing no fp32 dq in memory.
//
//   p = exp(s/√D − lse) ;  dv = pᵀ·do ;  dp = do·vᵀ ;  ds = p∘(dp − <do, o>) ;  dq = ds·k/√D ;  dk = dsᵀ·q/√D
//
// Eight warps of 16 rows each. The key kernel computes sᵀ and dpᵀ, whose accumulators are, rounded to bf16, the left
// operands of the products that follow: p and ds never leave the registers.
#include "kernels/cuda/attention_own.hpp"
#include "kernels/cuda/flash.cuh"
#include "kernels/cuda/head_dim.hpp"

namespace spillway {

namespace {

using namespace flash;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRows = kWarps * 16;  // keys or queries that a block owns
constexpr int kOther = 64;          // queries or keys per tile that it walks over
constexpr int kOtherTiles = kOther / 8;
constexpr float kLog2E = 1.4426950408889634f;

// delta[b,h,t] = <do, o>. D/8 neighbouring lanes per head and row.
template <int D>
__global__ void __launch_bounds__(kThreads)
    output_dot_kernel(float* __restrict__ delta, const bf16* __restrict__ d_o, const bf16* __restrict__ o,
                      std::int64_t rows, int T, int H) {
  constexpr int kLanes = D / kVector;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row_and_head = index / kLanes;
  float dot = 0;
  if (row_and_head < rows * H) {
    float left[kVector], right[kVector];
    unpack(left, vectors(d_o)[index]);
    unpack(right, vectors(o)[index]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) dot += left[j] * right[j];
  }
  dot = lane_sum<kLanes>(dot);
  if (row_and_head >= rows * H || index % kLanes != 0) return;
  const std::int64_t row = row_and_head / H, head = row_and_head % H;
  delta[(row / T * H + head) * T + row % T] = dot;
}

// sums = a·bᵀ over channels: a: rows `row` … +15 of one tile, b: all kOther rows of another.
template <int D>
__device__ __forceinline__ void multiply_rows(float (&sums)[kOtherTiles][4], std::uint32_t a_tile, int row,
                                              std::uint32_t b_tile) {
#pragma unroll
  for (int n = 0; n < kOtherTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t a[4];
    load_a<D>(a, a_tile, row, step);
#pragma unroll
    for (int pair = 0; pair < kOtherTiles / 2; ++pair) {
      std::uint32_t b[4];
      load_b<D>(b, b_tile, 16 * pair, step);
      ptx::multiply_accumulate(sums[2 * pair], a, b[0], b[1]);
      ptx::multiply_accumulate(sums[2 * pair + 1], a, b[2], b[3]);
    }
  }
}

// sums += bf16(weights)·tile, over the kOther rows of the tile.
template <int D>
__device__ __forceinline__ void accumulate_rows(float (&sums)[D / 8][4],
                                                const float (&weights)[kOtherTiles][4], std::uint32_t tile) {
#pragma unroll
  for (int step = 0; step < kOther / 16; ++step) {
    std::uint32_t a[4];
    accumulators_to_a(a, weights[2 * step], weights[2 * step + 1]);
#pragma unroll
    for (int pair = 0; pair < D / 16; ++pair) {
      std::uint32_t b[4];
      load_b_transposed<D>(b, tile, 16 * step, pair);
      ptx::multiply_accumulate(sums[2 * pair], a, b[0], b[1]);
      ptx::multiply_accumulate(sums[2 * pair + 1], a, b[2], b[3]);
    }
  }
}

// Where a head's matrices begin.
template <int D>
struct HeadPointers {
  __device__ HeadPointers(const bf16* qkv, const bf16* d_o, int head_of_all, int T, int H)
      : qkv_stride(static_cast<std::int64_t>(3) * H * D), o_stride(static_cast<std::int64_t>(H) * D) {
    const std::int64_t batch = head_of_all / H, head = head_of_all % H;
    offset = batch * T * qkv_stride + head * D;
    q = qkv + offset;
    k = q + H * D;
    v = k + H * D;
    dout = d_o + batch * T * o_stride + head * D;
  }
  std::int64_t qkv_stride, o_stride, offset;
  const bf16 *q, *k, *v, *dout;
};

template <int D>
constexpr int kStageBytes = 2 * tile_bytes<D>(kOther);
template <int D>
constexpr int kKeySharedBytes = 2 * tile_bytes<D>(kRows) + 2 * kStageBytes<D> + 4 * kOther * sizeof(float);
template <int D>
constexpr int kQuerySharedBytes = 2 * tile_bytes<D>(kRows) + 2 * kStageBytes<D>;

// lse·log2(e) and delta of a tile's queries into shared memory. Beyond T: p = 2^(s − ∞) = 0.
__device__ __forceinline__ void load_statistics(float* lse_tile, float* delta_tile, const float* lse,
                                                const float* delta, int first, int T) {
  const int local = threadIdx.x % kOther, query = first + local;
  if (threadIdx.x < kOther)
    lse_tile[local] = query < T ? lse[query] * kLog2E : INFINITY;
  else if (threadIdx.x < 2 * kOther)
    delta_tile[local] = query < T ? delta[query] : 0.0f;
}

template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_backward_keys_kernel(bf16* __restrict__ dqkv, const bf16* __restrict__ d_o,
                                   const float* __restrict__ lse, const float* __restrict__ delta,
                                   const bf16* __restrict__ qkv, int heads, int T, int H, float scale_log2,
                                   float scale) {
  extern __shared__ __align__(128) char shared[];
  char* const stages = shared + 2 * tile_bytes<D>(kRows);
  float* const statistics =
      reinterpret_cast<float*>(stages + 2 * kStageBytes<D>);  // (stage, lse or delta, query)
  const std::uint32_t k_tile = ptx::shared_address(shared), v_tile = k_tile + tile_bytes<D>(kRows);
  const int blocks = (T + kRows - 1) / kRows;
  const HeadBlock place = head_block(heads, blocks);
  const HeadPointers<D> head(qkv, d_o, place.head, T, H);
  const int first_key = (blocks - 1 - place.block) * kRows;  // the first keys are seen by most queries
  const int warp_row = threadIdx.x / kWarp * 16, warp_key = first_key + warp_row;
  const float* head_lse = lse + static_cast<std::int64_t>(place.head) * T;
  const float* head_delta = delta + static_cast<std::int64_t>(place.head) * T;

  const auto load_stage = [&](int tile) {
    const std::uint32_t stage = ptx::shared_address(stages) + tile % 2 * kStageBytes<D>;
    float* const values = statistics + tile % 2 * 2 * kOther;
    load_tile<D, kOther, kThreads>(stage, head.q, head.qkv_stride, tile * kOther, T);
    load_tile<D, kOther, kThreads>(stage + tile_bytes<D>(kOther), head.dout, head.o_stride, tile * kOther, T);
    load_statistics(values, values + kOther, head_lse, head_delta, tile * kOther, T);
    ptx::copy_async_commit();
  };

  float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};
  load_tile<D, kRows, kThreads>(k_tile, head.k, head.qkv_stride, first_key, T);
  load_tile<D, kRows, kThreads>(v_tile, head.v, head.qkv_stride, first_key, T);
  int tile = first_key / kOther;
  const int tiles = (T + kOther - 1) / kOther;
  load_stage(tile);
  for (; tile < tiles; ++tile) {
    ptx::copy_async_wait<0>();
    __syncthreads();  // this stage is there, and nobody reads the other any more
    if (tile + 1 < tiles) load_stage(tile + 1);
    const int first_query = tile * kOther;
    if (first_query + kOther <= warp_key) continue;  // all queries come before the warp's keys
    const std::uint32_t q_tile = ptx::shared_address(stages) + tile % 2 * kStageBytes<D>;
    const std::uint32_t do_tile = q_tile + tile_bytes<D>(kOther);
    const float* lse_tile = statistics + tile % 2 * 2 * kOther;
    const float* delta_tile = lse_tile + kOther;

    float p[kOtherTiles][4], ds[kOtherTiles][4];  // transposed: keys × queries
    multiply_rows<D>(p, k_tile, warp_row, q_tile);
#pragma unroll
    for (int n = 0; n < kOtherTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int local = 8 * n + accumulator_column(i);
        const float value = ptx::exp2_fast(p[n][i] * scale_log2 - lse_tile[local]);
        p[n][i] = warp_key + accumulator_row(i) > first_query + local ? 0.0f : value;
      }
    accumulate_rows<D>(dv[0], p, do_tile);
    multiply_rows<D>(ds, v_tile, warp_row, do_tile);
#pragma unroll
    for (int n = 0; n < kOtherTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) ds[n][i] = p[n][i] * (ds[n][i] - delta_tile[8 * n + accumulator_column(i)]);
    accumulate_rows<D>(dk[0], ds, q_tile);
  }

#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) dk[0][n][i] *= scale;
  // Each warp reads its own rows of the key and value tiles only: it may overwrite them without waiting for the others.
  bf16* const dk_out = dqkv + head.offset + H * D;
  store_rows<D>(dk_out, head.qkv_stride, dk, shared, warp_row, first_key, T);
  store_rows<D>(dk_out + H * D, head.qkv_stride, dv, shared + tile_bytes<D>(kRows), warp_row, first_key, T);
}

template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_backward_queries_kernel(bf16* __restrict__ dqkv, const bf16* __restrict__ d_o,
                                      const float* __restrict__ lse, const float* __restrict__ delta,
                                      const bf16* __restrict__ qkv, int heads, int T, int H, float scale_log2,
                                      float scale) {
  extern __shared__ __align__(128) char shared[];
  const std::uint32_t q_tile = ptx::shared_address(shared), do_tile = q_tile + tile_bytes<D>(kRows);
  const std::uint32_t stages = do_tile + tile_bytes<D>(kRows);
  const HeadBlock place = head_block(heads, (T + kRows - 1) / kRows);
  const HeadPointers<D> head(qkv, d_o, place.head, T, H);
  const int first_query = place.block * kRows;
  const int warp_row = threadIdx.x / kWarp * 16, warp_query = first_query + warp_row;

  const auto load_stage = [&](int tile) {
    const std::uint32_t stage = stages + tile % 2 * kStageBytes<D>;
    load_tile<D, kOther, kThreads>(stage, head.k, head.qkv_stride, tile * kOther, T);
    load_tile<D, kOther, kThreads>(stage + tile_bytes<D>(kOther), head.v, head.qkv_stride, tile * kOther, T);
    ptx::copy_async_commit();
  };

  // The statistics of the two rows (row, row + 8) that this lane's accumulators belong to.
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_query + accumulator_row(2 * half);
    const std::int64_t index = static_cast<std::int64_t>(place.head) * T + query;
    row_lse[half] = query < T ? lse[index] * kLog2E : INFINITY;
    row_delta[half] = query < T ? delta[index] : 0.0f;
  }

  float dq[1][D / 8][4] = {};
  load_tile<D, kRows, kThreads>(q_tile, head.q, head.qkv_stride, first_query, T);
  load_tile<D, kRows, kThreads>(do_tile, head.dout, head.o_stride, first_query, T);
  load_stage(0);
  const int tiles = (min(first_query + kRows, T) + kOther - 1) / kOther;
  for (int tile = 0; tile < tiles; ++tile) {
    ptx::copy_async_wait<0>();
    __syncthreads();  // this stage is there, and nobody reads the other any more
    if (tile + 1 < tiles) load_stage(tile + 1);
    const int first_key = tile * kOther;
    if (first_key >= warp_query + 16) continue;  // all keys come after the warp's queries
    const std::uint32_t k_tile = stages + tile % 2 * kStageBytes<D>, v_tile = k_tile + tile_bytes<D>(kOther);

    float p[kOtherTiles][4], ds[kOtherTiles][4];
    multiply_rows<D>(p, q_tile, warp_row, k_tile);
    multiply_rows<D>(ds, do_tile, warp_row, v_tile);
#pragma unroll
    for (int n = 0; n < kOtherTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float value = ptx::exp2_fast(p[n][i] * scale_log2 - row_lse[i / 2]);
        const bool hidden = first_key + 8 * n + accumulator_column(i) > warp_query + accumulator_row(i);
        ds[n][i] = hidden ? 0.0f : value * (ds[n][i] - row_delta[i / 2]);
      }
    accumulate_rows<D>(dq[0], ds, k_tile);
  }

#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) dq[0][n][i] *= scale;
  store_rows<D>(dqkv + head.offset, head.qkv_stride, dq, shared, warp_row, first_query, T);
}

}  // namespace

void own_attention_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                            const bf16* qkv, float* workspace, int B, int T, int H, int D) {
  const std::int64_t rows = static_cast<std::int64_t>(B) * T;
  const int blocks = B * H * ceil_div(T, kRows);
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  with_head_dim(D, [&](auto dim) {
    output_dot_kernel<dim()><<<ceil_div(rows * H * (D / kVector), kThreads), kThreads, 0, device.stream()>>>(
        workspace, d_o, o, rows, T, H);
    LAUNCH_CHECK();
    const auto launch = [&](auto kernel, int bytes) {
      CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
      kernel<<<blocks, kThreads, bytes, device.stream()>>>(dqkv, d_o, lse, workspace, qkv, B * H, T, H,
                                                           scale_log2(D), scale);
      LAUNCH_CHECK();
    };
    launch(attention_backward_keys_kernel<dim()>, kKeySharedBytes<dim()>);
    launch(attention_backward_queries_kernel<dim()>, kQuerySharedBytes<dim()>);
  });
}

}  // namespace spillway
