// Causal flash attention, backward, for Hopper, first of two kernels: delta = <do, o> and dq, from the queries' side.
//
//   p = exp(s/√D − lse) ;  dp = do·vᵀ ;  ds = p∘(dp − delta) ;  dq = ds·k/√D
//
// Two kernels multiply q·kᵀ and do·vᵀ twice, 7 products instead of 5. In exchange dq is summed in registers: there is no
// fp32 dq in memory to clear, to add to from all blocks and to convert (at B16 H10 T2048 D128 that is some 0.15 ms of memory
// passes and 1.4 GB of additions in the L2 cache), delta needs no kernel of its own, and the result has the same bits every
// time. The structure is the forward kernel's: a producer thread, two consumer warpgroups of 64 queries that take turns in
// issuing products, items from a counter, longest first.
//
// Tiles and time on an H100 80GB, 2026-11-23, B16 H10 T2048 D128, rate of the 3 useful products (T = 4096 in brackets):
//   128 queries × 128 keys, 2 stages, turns 0.426 ms (605 TFLOP/s) · no turns 0.437 (0.765 ms, 674 TFLOP/s)
//   D = 64 (B16 H20 T2048): the same tiles 0.564 ms (457 TFLOP/s)
#include "kernels/cuda/attention_sm90.cuh"

namespace spillway {

namespace {

using namespace warpgroup;

constexpr int kKeys = 128;
constexpr int kStages = 2;

template <int D>
struct Shape {
  static constexpr int kGroups = 2;  // consumer warpgroups, 64 queries each
  static constexpr int kQueries = 64 * kGroups;
  static constexpr int kThreadsInAll = (kGroups + 1) * kThreads;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kProducerRegisters = 40;          // together what the launch gives, 3 · 168
  static constexpr int kQueryBytes = tile_bytes<D>(64);  // of one warpgroup
  static constexpr int kKeyBytes = tile_bytes<D>(kKeys);
  // Places in shared memory. o and dq share theirs.
  static constexpr int kQ = 0, kDo = kQ + kGroups * kQueryBytes, kO = kDo + kGroups * kQueryBytes,
                       kK = kO + kGroups * kQueryBytes, kV = kK + kStages * kKeyBytes,
                       kBarriers = kV + kStages * kKeyBytes;
  static constexpr int kSharedBytes = kTileAlignment + kBarriers + 256;
};

// The rings of a block and this thread's places in them.
template <int D>
struct Rings {
  __device__ explicit Rings(std::uint32_t at)
      : q(at),
        o(at + q.kBytes),
        k(at + 2 * q.kBytes),
        v(at + 2 * q.kBytes + k.kBytes),
        items(at + 2 * q.kBytes + k.kBytes + v.kBytes) {}
  __device__ void init() const {
    q.init(1, Shape<D>::kGroups);
    o.init(1, Shape<D>::kGroups);
    k.init(1, Shape<D>::kGroups);
    v.init(1, Shape<D>::kGroups);
    items.init(Shape<D>::kGroups * kThreads);
    ptx::fence_barrier_init();
  }
  Ring<1> q, o;  // q with do
  Ring<kStages> k, v;
  ItemRing items;
};

struct Maps {
  TensorMap qkv, o, d_o, dqkv;
};

template <int D>
__device__ int last_tile(int first_query, int T) {
  return (min(first_query + Shape<D>::kQueries, T) - 1) / kKeys;
}

// One thread: loads what the consumers need, in their order, as slots become free.
template <int D>
__device__ void produce(std::uint32_t shared, Rings<D>& rings, const Maps& maps,
                        const AttentionArguments& args, int blocks, int all) {
  using S = Shape<D>;
  for (int index = blockIdx.x;; index = draw_item(args)) {
    rings.items.put(index);
    if (index >= all) return;
    const Item item = item_at(index, args, blocks);
    const int first_query = item.rank * S::kQueries;
    const auto load_queries = [&](const Ring<1>& ring, int place, const TensorMap& map) {
      for (int i = 0; i < S::kGroups; ++i)
        load_tile<D, 64>(shared + place + i * S::kQueryBytes, map, ring.full(), item.head,
                         first_query + 64 * i, item.batch);
    };
    const auto load_keys = [&](Ring<kStages>& ring, int place, int which, int tile) {
      ring.wait_empty();
      ring.announce(S::kKeyBytes);
      load_tile<D, kKeys>(shared + place + ring.stage() * S::kKeyBytes, maps.qkv, ring.full(),
                          fused_head(args, item, which), tile * kKeys, item.batch);
      ring.advance();
    };
    rings.q.wait_empty();
    rings.q.announce(2 * S::kGroups * S::kQueryBytes);
    load_queries(rings.q, S::kQ, maps.qkv);
    load_queries(rings.q, S::kDo, maps.d_o);
    rings.q.advance();
    int tile = last_tile<D>(first_query, args.T);
    load_keys(rings.k, S::kK, 1, tile);
    load_keys(rings.v, S::kV, 2, tile);
    rings.o.wait_empty();
    rings.o.announce(S::kGroups * S::kQueryBytes);
    load_queries(rings.o, S::kO, maps.o);
    rings.o.advance();
    while (--tile >= 0) {
      load_keys(rings.k, S::kK, 1, tile);
      load_keys(rings.v, S::kV, 2, tile);
    }
  }
}

// <do, o> of row threadIdx.x % 128 / 2 of the warpgroup's tiles, in both of its threads.
template <int D>
__device__ float row_dot(std::uint32_t do_tile, std::uint32_t o_tile) {
  constexpr int kChunks = D / 16;  // of 16 bytes, per thread
  const int row = threadIdx.x % kThreads / 2, first = threadIdx.x % 2 * kChunks;
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    const int chunk = first + i;
    const std::uint32_t place = (chunk / 8 * 64 + row) * kRowBytes + (chunk % 8 ^ row % 8) * 16;
    float left[kVector], right[kVector];
    unpack(left, ptx::load_shared_16(do_tile + place));
    unpack(right, ptx::load_shared_16(o_tile + place));
#pragma unroll
    for (int j = 0; j < kVector; ++j) dot += left[j] * right[j];
  }
  return lane_sum<2>(dot);
}

// p: scores in, ds out (without the factor 1/√D). dp = do·vᵀ.
template <bool kMask>
__device__ __forceinline__ void score_gradients(float (&p)[kKeys / 2], const float (&dp)[kKeys / 2],
                                                const float (&row_lse)[2], const float (&row_delta)[2],
                                                int query, int first_key) {
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    const int half = i % 4 / 2;
    const bool hidden = kMask && first_key + accumulator_column(i) > query + 8 * half;
    p[i] = hidden ? 0.0f : p[i] * (dp[i] - row_delta[half]);
  }
}

// One warpgroup: its 64 queries of each item.
template <int D>
__device__ void consume(std::uint32_t shared, Rings<D>& rings, const Maps& maps, const float* lse,
                        float* statistics, const RopeArguments& rope, const AttentionArguments& args,
                        int blocks, int all) {
  using S = Shape<D>;
  const int group = threadIdx.x / kThreads, lane = threadIdx.x % kWarp;
  const bool elected = threadIdx.x % kThreads == 0;
  const std::uint32_t q_tile = shared + S::kQ + group * S::kQueryBytes;
  const std::uint32_t do_tile = shared + S::kDo + group * S::kQueryBytes;
  const std::uint32_t o_tile = shared + S::kO + group * S::kQueryBytes;
  const float scale_log2 = args.scale * kLog2E;
  const int turn = 1 + group, next_turn = 1 + (group + 1) % S::kGroups, self = 1 + S::kGroups + group;
  if (group == S::kGroups - 1) ptx::named_barrier_arrive(next_turn, 2 * kThreads);

  for (int index = rings.items.take(); index < all; index = rings.items.take()) {
    const Item item = item_at(index, args, blocks);
    const int first_query = item.rank * S::kQueries, own_query = first_query + 64 * group;
    const int last = last_tile<D>(first_query, args.T), query = own_query + accumulator_row(0);
    float dq[D / 2] = {}, p[kKeys / 2], dp[kKeys / 2], row_lse[2], row_delta[2];
    std::uint32_t a[kKeys / 16][4];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      row_lse[half] = query + 8 * half < args.T
                          ? lse[static_cast<std::int64_t>(item.all_head) * args.T + query + 8 * half] * kLog2E
                          : INFINITY;
    const auto release = [&](auto& ring) {
      if (elected) ring.release();
      ring.advance();
    };

    rings.q.wait_full();
    rings.o.wait_full();
    const float dot = row_dot<D>(do_tile, o_tile);
    row_delta[0] = __shfl_sync(0xffffffffu, dot, lane / 4 * 2);
    row_delta[1] = __shfl_sync(0xffffffffu, dot, lane / 4 * 2 + 16);
    if (lane % 4 == 0 && own_query < args.T)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* place = statistics + statistics_at(item.all_head, query + 8 * half, args.T);
        place[0] = row_lse[half];
        place[kStatisticsBlock / 2] = row_delta[half];
      }

    const auto step = [&](int tile, auto mask) {
      rings.k.wait_full();
      rings.v.wait_full();
      ptx::named_barrier_sync(turn, 2 * kThreads);
      const std::uint32_t k_tile = shared + S::kK + rings.k.stage() * S::kKeyBytes;
      ptx::hold(p);
      ptx::hold(dp);
      ptx::products_begin();
      multiply_channels<D, 64, kKeys>(p, q_tile, 0, k_tile);
      ptx::products_commit();
      multiply_channels<D, 64, kKeys>(dp, do_tile, 0, shared + S::kV + rings.v.stage() * S::kKeyBytes);
      ptx::products_commit();
      ptx::named_barrier_arrive(next_turn, 2 * kThreads);
      ptx::products_wait<1>();
      ptx::hold(p);
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) p[i] = ptx::exp2_fast(p[i] * scale_log2 - row_lse[i % 4 / 2]);
      ptx::products_wait<0>();
      ptx::hold(dp);
      release(rings.v);
      score_gradients<decltype(mask)::value>(p, dp, row_lse, row_delta, query, tile * kKeys);
      round_to_operand<kKeys>(a, p);
      ptx::hold(dq);
      hold_operand(a);
      ptx::products_begin();
      multiply_rows<D, kKeys>(dq, a, k_tile, true);
      ptx::products_commit();
      ptx::products_wait<0>();
      ptx::hold(dq);
      release(rings.k);
    };
    step(last, std::true_type());
    for (int tile = last - 1; tile >= 0; --tile) step(tile, std::false_type());

#pragma unroll
    for (int i = 0; i < D / 2; ++i) dq[i] *= args.scale;
    if (rope.rstd != nullptr) undo_rope_and_norm<D>(dq, q_tile, own_query, 0, item, args, rope);
    store_tile<D>(o_tile, dq);  // each warp has read its own rows of o
    ptx::fence_async_proxy();
    ptx::named_barrier_sync(self, kThreads);
    release(rings.q);
    if (elected) {
      write_tile<D>(maps.dqkv, o_tile, item.head, own_query, item.batch);
      ptx::tensor_store_commit();
      ptx::tensor_store_wait_read();
    }
    release(rings.o);
  }
}

template <int D>
__global__ void __launch_bounds__(Shape<D>::kThreadsInAll, 1)
    attention_dq_kernel(const __grid_constant__ Maps maps, const float* lse, float* statistics,
                        const RopeArguments rope, const AttentionArguments args) {
  using S = Shape<D>;
  extern __shared__ char dynamic_shared[];
  const std::uint32_t shared = first_tile(dynamic_shared);
  Rings<D> rings(shared + S::kBarriers);
  if (threadIdx.x == 0) rings.init();
  __syncthreads();
  const int blocks = (args.T + S::kQueries - 1) / S::kQueries, all = args.heads * blocks;
  if (threadIdx.x / kThreads == S::kGroups) {
    ptx::give_registers<S::kProducerRegisters>();
    if (threadIdx.x % kThreads == 0) produce<D>(shared, rings, maps, args, blocks, all);
  } else {
    ptx::take_registers<S::kConsumerRegisters>();
    consume<D>(shared, rings, maps, lse, statistics, rope, args, blocks, all);
  }
}

}  // namespace

void attention_dq(Cuda& device, bf16* dqkv, float* statistics, const bf16* d_o, const bf16* o,
                  const float* lse, const bf16* qkv, const float* rstd, const float* cosine,
                  const float* sine, int B, int T, int H, int D) {
  const AttentionArguments args = {new_item_counter(device), B * H, T, H,
                                   1.0f / std::sqrt(static_cast<float>(D))};
  const Maps maps = {fused_map(qkv, B, T, H, D), head_map(o, B, T, H, D), head_map(d_o, B, T, H, D),
                     fused_map(dqkv, B, T, H, D)};
  with_kernel_channels(D, [&](auto channels) {
    using S = Shape<channels()>;
    launch_persistent<S>(device, attention_dq_kernel<channels()>, B * H * ceil_div(T, S::kQueries), maps, lse,
                         statistics, RopeArguments{rstd, cosine, sine}, args);
  });
}

}  // namespace spillway
