// Causal flash attention, forward. One block owns 128 queries of one head and walks over its keys in tiles of 64; four
// warps own 32 queries each, so that every key and value fragment read from shared memory feeds two tensor-core products.
//
// |score| ≤ √D, because q and k are RMS-normalized: exp never overflows (e^11.3 = 8e4), so there is no running maximum
// and no rescaling. Two blocks share a multiprocessor: one computes exponentials while the other multiplies.
#include "kernels/cuda/attention_own.hpp"
#include "kernels/cuda/flash.cuh"
#include "kernels/cuda/head_dim.hpp"

namespace spillway {

namespace {

using namespace flash;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kQueriesPerWarp = 32;
constexpr int kQueries = kWarps * kQueriesPerWarp;
constexpr int kKeys = 64;
constexpr int kQueryTiles = kQueriesPerWarp / 16;
constexpr int kKeyTiles = kKeys / 8;

template <int D>
constexpr int kForwardSharedBytes = tile_bytes<D>(kQueries) + 2 * tile_bytes<D>(kKeys);

// scores = q·kᵀ for the warp's queries and the tile's keys.
template <int D>
__device__ __forceinline__ void multiply_q_k(float (&scores)[kQueryTiles][kKeyTiles][4], std::uint32_t q,
                                             std::uint32_t k, int query_row) {
#pragma unroll
  for (int m = 0; m < kQueryTiles; ++m)
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][n][i] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t a[kQueryTiles][4];
#pragma unroll
    for (int m = 0; m < kQueryTiles; ++m) load_a<D>(a[m], q, query_row + 16 * m, step);
#pragma unroll
    for (int pair = 0; pair < kKeyTiles / 2; ++pair) {
      std::uint32_t b[4];
      load_b<D>(b, k, 16 * pair, step);
#pragma unroll
      for (int m = 0; m < kQueryTiles; ++m) {
        ptx::multiply_accumulate(scores[m][2 * pair], a[m], b[0], b[1]);
        ptx::multiply_accumulate(scores[m][2 * pair + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// scores become exp(score/√D), 0 where the key lies after the query; sums[m][half] collects them per row.
template <bool kMask>
__device__ __forceinline__ void exponentials(float (&scores)[kQueryTiles][kKeyTiles][4],
                                             float (&sums)[kQueryTiles][2], float scale_log2, int first_query,
                                             int first_key) {
#pragma unroll
  for (int m = 0; m < kQueryTiles; ++m)
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float p = ptx::exp2_fast(scores[m][n][i] * scale_log2);
        if (kMask && first_key + 8 * n + accumulator_column(i) > first_query + 16 * m + accumulator_row(i))
          p = 0;
        scores[m][n][i] = p;
        sums[m][i / 2] += p;
      }
}

// out += p·v
template <int D>
__device__ __forceinline__ void multiply_p_v(float (&out)[kQueryTiles][D / 8][4],
                                             const float (&p)[kQueryTiles][kKeyTiles][4], std::uint32_t v) {
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    std::uint32_t a[kQueryTiles][4];
#pragma unroll
    for (int m = 0; m < kQueryTiles; ++m) accumulators_to_a(a[m], p[m][2 * step], p[m][2 * step + 1]);
#pragma unroll
    for (int pair = 0; pair < D / 16; ++pair) {
      std::uint32_t b[4];
      load_b_transposed<D>(b, v, 16 * step, pair);
#pragma unroll
      for (int m = 0; m < kQueryTiles; ++m) {
        ptx::multiply_accumulate(out[m][2 * pair], a[m], b[0], b[1]);
        ptx::multiply_accumulate(out[m][2 * pair + 1], a[m], b[2], b[3]);
      }
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, 2)
    attention_forward_kernel(bf16* __restrict__ o, float* __restrict__ lse, const bf16* __restrict__ qkv,
                             int heads, int T, int H, float scale_log2) {
  extern __shared__ __align__(128) char shared[];
  const std::uint32_t q_tile = ptx::shared_address(shared);
  const std::uint32_t k_tile = q_tile + tile_bytes<D>(kQueries), v_tile = k_tile + tile_bytes<D>(kKeys);
  const HeadBlock place = head_block(heads, (T + kQueries - 1) / kQueries);
  const int batch = place.head / H, head = place.head % H;
  const std::int64_t stride = static_cast<std::int64_t>(3) * H * D;
  const bf16* q = qkv + batch * T * stride + head * D;
  const bf16* k = q + H * D;
  const bf16* v = k + H * D;
  const int first_query = place.block * kQueries;
  const int warp_row = threadIdx.x / kWarp * kQueriesPerWarp;

  float out[kQueryTiles][D / 8][4] = {}, sums[kQueryTiles][2] = {};
  int tile = (min(first_query + kQueries, T) - 1) / kKeys;
  load_tile<D, kQueries, kThreads>(q_tile, q, stride, first_query, T);
  load_tile<D, kKeys, kThreads>(k_tile, k, stride, tile * kKeys, T);
  ptx::copy_async_commit();
  for (; tile >= 0; --tile) {
    const int first_key = tile * kKeys;
    // A warp whose queries all come before these keys has nothing to add.
    const bool visible = first_key < first_query + warp_row + kQueriesPerWarp;
    float p[kQueryTiles][kKeyTiles][4];
    ptx::copy_async_wait<0>();
    __syncthreads();  // keys are there, and nobody reads the previous values any more
    load_tile<D, kKeys, kThreads>(v_tile, v, stride, first_key, T);
    ptx::copy_async_commit();
    if (visible) {
      multiply_q_k<D>(p, q_tile, k_tile, warp_row);
      if (first_key + kKeys > first_query + warp_row)
        exponentials<true>(p, sums, scale_log2, first_query + warp_row, first_key);
      else
        exponentials<false>(p, sums, scale_log2, first_query + warp_row, first_key);
    }
    ptx::copy_async_wait<0>();
    __syncthreads();  // values are there, and nobody reads these keys any more
    if (tile > 0) {
      load_tile<D, kKeys, kThreads>(k_tile, k, stride, first_key - kKeys, T);
      ptx::copy_async_commit();
    }
    if (visible) multiply_p_v<D>(out, p, v_tile);
  }

#pragma unroll
  for (int m = 0; m < kQueryTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = lane_sum<4>(sums[m][half]);
      const int query = first_query + warp_row + 16 * m + accumulator_row(2 * half);
      if (threadIdx.x % 4 == 0 && query < T)
        lse[static_cast<std::int64_t>(place.head) * T + query] = logf(sum);
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) out[m][n][i] /= sum;
    }
  // Each warp reads its own rows of the query tile only: it may overwrite them without waiting for the others.
  store_rows<D>(o + (static_cast<std::int64_t>(batch) * T * H + head) * D, static_cast<std::int64_t>(H) * D,
                out, shared, warp_row, first_query, T);
}

}  // namespace

void own_attention_forward(Cuda& device, bf16* o, float* lse, const bf16* qkv, int B, int T, int H, int D) {
  with_head_dim(D, [&](auto dim) {
    constexpr int kBytes = kForwardSharedBytes<dim()>;
    const auto kernel = attention_forward_kernel<dim()>;
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
    kernel<<<B * H * ceil_div(T, kQueries), kThreads, kBytes, device.stream()>>>(o, lse, qkv, B * H, T, H,
                                                                                 scale_log2(D));
  });
  LAUNCH_CHECK();
}

}  // namespace spillway
