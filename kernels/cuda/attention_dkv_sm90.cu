// Causal flash attention, backward, for Hopper, second of two kernels: dk and dv, from the keys' side. First is
// attention_dq_sm90.cu, which says why there are two.
//
//   p = exp(s/√D − lse) ;  dv = pᵀ·do ;  dp = do·vᵀ ;  ds = p∘(dp − delta) ;  dk = dsᵀ·q/√D ;  delta = <do, o>
//
// As in the forward kernel, persistent blocks take (head, block of keys) items, those with most queries first; a producer
// warp feeds tiles of 64 queries (q, do, lse, delta); consumer warpgroups own 64 keys each and take turns in issuing
// products. All products are transposed, keys × queries: the accumulators of pᵀ and dsᵀ are, rounded to bf16, the left
// operands of the products that follow, so they never leave the registers. dk and dv stay in registers (64 each at D = 128):
// that leaves room for 64 queries at a time, and for no product across iterations (tried: ptxas then serializes them).
//
// Tiles (keys × queries, stages) and time on an H100 80GB, 2026-11-23, B16 H10 T2048 D128, rate of the 4 useful products:
//   128 × 64, 2 stages, turns 0.615 ms (559 TFLOP/s) · no turns 0.618 · 3 stages, no turns 0.674
//   D = 64 (B16 H20 T2048): 128 × 64, 2 stages 0.822 ms (418 TFLOP/s); 3 warpgroups lack registers
#include "kernels/cuda/attention_sm90.cuh"

namespace spillway {

namespace {

using namespace warpgroup;

constexpr int kQueries = 64;
constexpr int kStages = 2;
constexpr int kStatisticsBytes = kStatisticsBlock * static_cast<int>(sizeof(float));

template <int D>
struct Shape {
  static constexpr int kGroups = 2;  // consumer warpgroups, 64 keys each
  static constexpr int kKeys = 64 * kGroups;
  static constexpr int kThreadsInAll = (kGroups + 1) * kThreads;
  static constexpr int kConsumerRegisters = 240;
  static constexpr int kProducerRegisters = 24;  // together what the launch gives, 3 · 168
  static constexpr int kTileBytes = tile_bytes<D>(64);
  // Places in shared memory.
  static constexpr int kK = 0, kV = kK + kGroups * kTileBytes, kOut = kV + kGroups * kTileBytes,
                       kQ = kOut + 2 * kGroups * kTileBytes, kDo = kQ + kStages * kTileBytes,
                       kStatistics = kDo + kStages * kTileBytes,
                       kBarriers = kStatistics + kStages * kStatisticsBytes;
  static constexpr int kSharedBytes = kTileAlignment + kBarriers + 256;
};

// The rings of a block and this thread's places in them.
template <int D>
struct Rings {
  __device__ explicit Rings(std::uint32_t at)
      : keys(at), queries(at + keys.kBytes), items(at + keys.kBytes + queries.kBytes) {}
  __device__ void init() const {
    keys.init(1, Shape<D>::kGroups);
    queries.init(1, Shape<D>::kGroups * kThreads);
    items.init(Shape<D>::kGroups * kThreads);
    ptx::fence_barrier_init();
  }
  Ring<1> keys;           // k and v
  Ring<kStages> queries;  // q, do and the statistics
  ItemRing items;
};

struct Maps {
  TensorMap qkv, d_o, dqkv;
};

// First key of an item: the first keys are seen by most queries.
template <int D>
__device__ int first_key_of(const Item& item, int blocks) {
  return (blocks - 1 - item.rank) * Shape<D>::kKeys;
}

// One thread: loads what the consumers need, in their order, as slots become free.
template <int D>
__device__ void produce(std::uint32_t shared, Rings<D>& rings, const Maps& maps, const float* statistics,
                        const AttentionArguments& args, int blocks, int all) {
  using S = Shape<D>;
  for (int index = blockIdx.x;; index = draw_item(args)) {
    rings.items.put(index);
    if (index >= all) return;
    const Item item = item_at(index, args, blocks);
    const int first_key = first_key_of<D>(item, blocks);
    rings.keys.wait_empty();
    rings.keys.announce(2 * S::kGroups * S::kTileBytes);
    for (int i = 0; i < S::kGroups; ++i)
      for (int which = 1; which <= 2; ++which)
        load_tile<D, 64>(shared + (which == 1 ? S::kK : S::kV) + i * S::kTileBytes, maps.qkv,
                         rings.keys.full(), fused_head(args, item, which), first_key + 64 * i, item.batch);
    rings.keys.advance();
    for (int first_query = first_key; first_query < args.T; first_query += kQueries) {
      rings.queries.wait_empty();
      rings.queries.announce(2 * S::kTileBytes + kStatisticsBytes);
      const int stage = rings.queries.stage();
      load_tile<D, 64>(shared + S::kQ + stage * S::kTileBytes, maps.qkv, rings.queries.full(), item.head,
                       first_query, item.batch);
      load_tile<D, 64>(shared + S::kDo + stage * S::kTileBytes, maps.d_o, rings.queries.full(), item.head,
                       first_query, item.batch);
      ptx::bulk_load(shared + S::kStatistics + stage * kStatisticsBytes,
                     statistics + statistics_at(item.all_head, first_query, args.T), kStatisticsBytes,
                     rings.queries.full());
      rings.queries.advance();
    }
  }
}

// One warpgroup: its 64 keys of each item. All products are transposed: keys × queries.
template <int D>
__device__ void consume(std::uint32_t shared, Rings<D>& rings, const Maps& maps, const RopeArguments& rope,
                        const AttentionArguments& args, int blocks, int all) {
  using S = Shape<D>;
  const int group = threadIdx.x / kThreads;
  const bool elected = threadIdx.x % kThreads == 0;
  const std::uint32_t k_tile = shared + S::kK + group * S::kTileBytes;
  const std::uint32_t v_tile = shared + S::kV + group * S::kTileBytes;
  const std::uint32_t dk_tile = shared + S::kOut + 2 * group * S::kTileBytes,
                      dv_tile = dk_tile + S::kTileBytes;
  const float scale_log2 = args.scale * kLog2E;
  const int turn = 1 + group, next_turn = 1 + (group + 1) % S::kGroups, self = 1 + S::kGroups + group;
  if (group == S::kGroups - 1) ptx::named_barrier_arrive(next_turn, 2 * kThreads);

  for (int index = rings.items.take(); index < all; index = rings.items.take()) {
    const Item item = item_at(index, args, blocks);
    const int first_key = first_key_of<D>(item, blocks), own_key = first_key + 64 * group;
    const int key = own_key + accumulator_row(0);
    float dk[D / 2] = {}, dv[D / 2] = {}, p[kQueries / 2], ds[kQueries / 2];
    std::uint32_t p_operand[kQueries / 16][4], ds_operand[kQueries / 16][4];
    // By every thread, because each reads the statistics by ordinary loads; products alone could be let go of by one. (One
    // thread of each warp after a __syncwarp() is enough for the hardware, but racecheck does not follow that.)
    const auto release_queries = [&] {
      rings.queries.release();
      rings.queries.advance();
    };

    const auto step = [&](int first_query, auto mask) {
      rings.queries.wait_full();
      const int stage = rings.queries.stage() * S::kTileBytes;
      const std::uint32_t q_tile = shared + S::kQ + stage, do_tile = shared + S::kDo + stage;
      const std::uint32_t statistics = shared + S::kStatistics + rings.queries.stage() * kStatisticsBytes;
      ptx::named_barrier_sync(turn, 2 * kThreads);
      ptx::hold(p);
      ptx::hold(ds);
      ptx::products_begin();
      multiply_channels<D, 64, kQueries>(p, k_tile, 0, q_tile);
      ptx::products_commit();
      multiply_channels<D, 64, kQueries>(ds, v_tile, 0, do_tile);
      ptx::products_commit();
      ptx::named_barrier_arrive(next_turn, 2 * kThreads);
      ptx::products_wait<1>();
      ptx::hold(p);
#pragma unroll
      for (int i = 0; i < kQueries / 2; i += 4) {
        const int column = accumulator_column(i);
        const float2 lse2 = ptx::load_shared_float2(statistics + 4 * column);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float value = ptx::exp2_fast(p[i + j] * scale_log2 - (j % 2 ? lse2.y : lse2.x));
          const bool hidden = decltype(mask)::value && key + j / 2 * 8 > first_query + column + j % 2;
          p[i + j] = hidden ? 0.0f : value;
        }
      }
      round_to_operand<kQueries>(p_operand, p);
      hold_operand(p_operand);
      ptx::hold(dv);
      ptx::products_begin();
      multiply_rows<D, kQueries>(dv, p_operand, do_tile, true);
      ptx::products_commit();
      ptx::products_wait<1>();
      ptx::hold(ds);
#pragma unroll
      for (int i = 0; i < kQueries / 2; i += 4) {
        const float2 delta = ptx::load_shared_float2(statistics + 4 * (kQueries + accumulator_column(i)));
#pragma unroll
        for (int j = 0; j < 4; ++j) ds[i + j] = p[i + j] * (ds[i + j] - (j % 2 ? delta.y : delta.x));
      }
      round_to_operand<kQueries>(ds_operand, ds);
      hold_operand(ds_operand);
      ptx::hold(dk);
      ptx::products_begin();
      multiply_rows<D, kQueries>(dk, ds_operand, q_tile, true);
      ptx::products_commit();
      ptx::products_wait<0>();
      ptx::hold(dk);
      ptx::hold(dv);
      release_queries();
    };

    rings.keys.wait_full();
    int first_query = first_key;
    for (; first_query < own_key && first_query < args.T; first_query += kQueries) {  // all before these keys
      rings.queries.wait_full();
      ptx::named_barrier_sync(turn, 2 * kThreads);
      ptx::named_barrier_arrive(next_turn, 2 * kThreads);
      release_queries();
    }
    if (own_key < args.T) {
      step(own_key, std::true_type());
      for (first_query = own_key + kQueries; first_query < args.T; first_query += kQueries)
        step(first_query, std::false_type());
    }

    if (elected) ptx::tensor_store_wait_read();  // of the item before
    ptx::named_barrier_sync(self, kThreads);
#pragma unroll
    for (int i = 0; i < D / 2; ++i) dk[i] *= args.scale;
    if (rope.rstd != nullptr) undo_rope_and_norm<D>(dk, k_tile, own_key, 1, item, args, rope);
    store_tile<D>(dk_tile, dk);
    store_tile<D>(dv_tile, dv);
    ptx::fence_async_proxy();
    ptx::named_barrier_sync(self, kThreads);
    if (elected) rings.keys.release();
    rings.keys.advance();
    if (elected) {
      write_tile<D>(maps.dqkv, dk_tile, fused_head(args, item, 1), own_key, item.batch);
      write_tile<D>(maps.dqkv, dv_tile, fused_head(args, item, 2), own_key, item.batch);
      ptx::tensor_store_commit();
    }
  }
  if (elected) ptx::tensor_store_wait_read();  // the block's shared memory outlives its last store
}

template <int D>
__global__ void __launch_bounds__(Shape<D>::kThreadsInAll, 1)
    attention_dkv_kernel(const __grid_constant__ Maps maps, const float* statistics, const RopeArguments rope,
                         const AttentionArguments args) {
  using S = Shape<D>;
  extern __shared__ char dynamic_shared[];
  const std::uint32_t shared = first_tile(dynamic_shared);
  Rings<D> rings(shared + S::kBarriers);
  if (threadIdx.x == 0) rings.init();
  __syncthreads();
  const int blocks = (args.T + S::kKeys - 1) / S::kKeys, all = args.heads * blocks;
  if (threadIdx.x / kThreads == S::kGroups) {
    ptx::give_registers<S::kProducerRegisters>();
    if (threadIdx.x % kThreads == 0) produce<D>(shared, rings, maps, statistics, args, blocks, all);
  } else {
    ptx::take_registers<S::kConsumerRegisters>();
    consume<D>(shared, rings, maps, rope, args, blocks, all);
  }
}

}  // namespace

void attention_dkv(Cuda& device, bf16* dqkv, const bf16* d_o, const float* statistics, const bf16* qkv,
                   const float* rstd, const float* cosine, const float* sine, int B, int T, int H, int D) {
  const AttentionArguments args = {new_item_counter(device), B * H, T, H,
                                   1.0f / std::sqrt(static_cast<float>(D))};
  const Maps maps = {fused_map(qkv, B, T, H, D), head_map(d_o, B, T, H, D), fused_map(dqkv, B, T, H, D)};
  with_kernel_channels(D, [&](auto channels) {
    using S = Shape<channels()>;
    launch_persistent<S>(device, attention_dkv_kernel<channels()>, B * H * ceil_div(T, S::kKeys), maps,
                         statistics, RopeArguments{rstd, cosine, sine}, args);
  });
}

void own_attention_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                            const bf16* qkv, float* workspace, int B, int T, int H, int D) {
  attention_dq(device, dqkv, workspace, d_o, o, lse, qkv, nullptr, nullptr, nullptr, B, T, H, D);
  attention_dkv(device, dqkv, d_o, workspace, qkv, nullptr, nullptr, nullptr, B, T, H, D);
}

void own_attention_rope_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                                 const bf16* qkv, const float* rstd, const float* cosine, const float* sine,
                                 float* workspace, int B, int T, int H, int D) {
  SHAPE_CHECK(D == 64 || D == 128, "the head dimension must be 64 or 128");
  attention_dq(device, dqkv, workspace, d_o, o, lse, qkv, rstd, cosine, sine, B, T, H, D);
  attention_dkv(device, dqkv, d_o, workspace, qkv, rstd, cosine, sine, B, T, H, D);
}

}  // namespace spillway
