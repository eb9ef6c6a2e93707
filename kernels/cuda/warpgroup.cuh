// What the Hopper kernels share: tiles in shared memory that the copy engine fills and warpgroup products read, and rings
// of such tiles between a producer and its consumers.
//
// A tile is kRows rows of D channels, kept as D/64 parts of 64 channels: in a part, each row is 128 bytes whose 16-byte
// chunks are swizzled (chunk c of row r lies where chunk c ^ r % 8 would), which is what tensor maps with a swizzle of 128
// bytes write and what shared_operand() describes. Tiles begin at multiples of 1024 bytes.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace spillway::warpgroup {

inline constexpr int kThreads = 128;  // of one warpgroup
inline constexpr int kPart = 64;      // channels
inline constexpr int kRowBytes = kPart * static_cast<int>(sizeof(bf16));
inline constexpr int kBox = kBoxRows;

template <int D>
__host__ __device__ constexpr int tile_bytes(int rows) {
  return rows * D * static_cast<int>(sizeof(bf16));
}

// Where an operand of a product lies. `part_bytes`: from one part of the tile to the next.
__device__ __forceinline__ std::uint64_t shared_operand(std::uint32_t address, int part_bytes) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kEightRows = 8 * kRowBytes / 16;
  return kSwizzle128 | kEightRows << 32 | static_cast<std::uint64_t>(part_bytes / 16) << 16 |
         (address & 0x3ffff) / 16;
}

// The operand `bytes` behind another: spares the address arithmetic.
__device__ __forceinline__ std::uint64_t further(std::uint64_t operand, int bytes) {
  return operand + bytes / 16;
}

// Rows `row` … of a tile of kRows rows, channels 16·step … +15: an operand that is read along the channels.
template <int kRows>
__device__ __forceinline__ std::uint64_t along_channels(std::uint32_t tile, int row, int step) {
  return shared_operand(tile + (step / 4 * kRows + row) * kRowBytes + step % 4 * 32, kRows * kRowBytes);
}

// Rows 16·step … +15, all channels from the first of part `part` on: an operand that is read along the rows.
template <int kRows>
__device__ __forceinline__ std::uint64_t along_rows(std::uint32_t tile, int step, int part = 0) {
  return shared_operand(tile + (part * kRows + 16 * step) * kRowBytes, kRows * kRowBytes);
}

// c = a·bᵀ over D channels. a: 64 rows from `a_row` on of a tile of kRowsA; b: all N rows of another.
template <int D, int kRowsA, int N>
__device__ __forceinline__ void multiply_channels(float (&c)[N / 2], std::uint32_t a, int a_row,
                                                  std::uint32_t b) {
#pragma unroll
  for (int step = 0; step < D / 16; ++step)
    ptx::product<0>(c, along_channels<kRowsA>(a, a_row, step), along_channels<N>(b, 0, step), step > 0);
}

// c (+)= a·b over the K rows of tile b, D channels wide. a: 64 × K, bf16 in registers.
template <int D, int K>
__device__ __forceinline__ void multiply_rows(float (&c)[D / 2], const std::uint32_t (&a)[K / 16][4],
                                              std::uint32_t b, bool accumulate) {
#pragma unroll
  for (int step = 0; step < K / 16; ++step)
    ptx::product<1>(c, a[step], along_rows<K>(b, step), accumulate || step > 0);
}

// Row (of 64) and column of this thread's accumulator i.
__device__ __forceinline__ int accumulator_row(int i) {
  return threadIdx.x % kThreads / kWarp * 16 + threadIdx.x % kWarp / 4 + i % 4 / 2 * 8;
}
__device__ __forceinline__ int accumulator_column(int i) { return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2; }

// Accumulators (64 × K) as the left operand of the next product.
template <int K>
__device__ __forceinline__ void round_to_operand(std::uint32_t (&a)[K / 16][4], const float (&c)[K / 2]) {
#pragma unroll
  for (int i = 0; i < K / 4; ++i) a[i / 4][i % 4] = ptx::pack_bf16(c[2 * i], c[2 * i + 1]);
}

template <int D>
__device__ __forceinline__ void hold_operand(std::uint32_t (&a)[D][4]) {
#pragma unroll
  for (int i = 0; i < D; ++i) ptx::hold(a[i]);
}

// For store_matrix_x4 and load_matrix_x4: this lane's address of the four matrices that accumulators 8·pair … +7 of the
// warpgroup are, in a tile of 64 rows.
__device__ __forceinline__ std::uint32_t accumulator_address(std::uint32_t tile, int pair) {
  const int lane = threadIdx.x % kWarp, row = threadIdx.x % kThreads / kWarp * 16 + lane % 16;
  const int chunk = pair % 4 * 2 + lane / 16;
  return tile + (pair / 4 * 64 + row) * kRowBytes + (chunk ^ row % 8) * 16;
}

// Accumulators (64 × D) as bf16 into a tile of 64 rows.
template <int D>
__device__ __forceinline__ void store_tile(std::uint32_t tile, const float (&c)[D / 2]) {
#pragma unroll
  for (int pair = 0; pair < D / 16; ++pair) {
    const float* v = c + 8 * pair;
    ptx::store_matrix_x4(accumulator_address(tile, pair), ptx::pack_bf16(v[0], v[1]),
                         ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7]));
  }
}

// Copies rows first_row … +kRows−1 of one head into a tile; rows and channels outside the tensor become zeros.
template <int D, int kRows>
__device__ __forceinline__ void load_tile(std::uint32_t tile, const TensorMap& map, std::uint32_t barrier,
                                          int head, int first_row, int batch) {
#pragma unroll
  for (int part = 0; part < D / kPart; ++part)
#pragma unroll
    for (int row = 0; row < kRows; row += kBox)
      ptx::tensor_load(tile + (part * kRows + row) * kRowBytes, &map, barrier, part * kPart, head,
                       first_row + row, batch);
}

// Writes a tile of 64 rows back; by one thread, after fence_async_proxy() in those that filled it and a barrier.
template <int D>
__device__ __forceinline__ void write_tile(const TensorMap& map, std::uint32_t tile, int head, int first_row,
                                           int batch) {
#pragma unroll
  for (int part = 0; part < D / kPart; ++part)
    ptx::tensor_store(&map, tile + part * 64 * kRowBytes, part * kPart, head, first_row, batch);
}

// A ring of slots between a producer and its consumers, with each thread's own place in it. A slot is full when all
// producers have arrived and the copies they announced are there; empty when all consumers have let go of it. All slots
// begin empty.
template <int kStages>
class Ring {
 public:
  static constexpr int kBytes = 16 * kStages;  // of barriers
  __device__ explicit Ring(std::uint32_t barriers) : full_(barriers), empty_(barriers + 8 * kStages) {}
  // By one thread of the block.
  __device__ void init(int producers, int consumers) const {
    for (int i = 0; i < kStages; ++i) {
      ptx::barrier_init(full_ + 8 * i, producers);
      ptx::barrier_init(empty_ + 8 * i, consumers);
    }
  }
  __device__ __forceinline__ int stage() const { return stage_; }
  __device__ __forceinline__ void advance() {
    if (++stage_ == kStages) stage_ = 0, parity_ ^= 1;
  }
  // Producers: wait for the slot, announce bytes (counts as an arrival) or just arrive.
  __device__ __forceinline__ void wait_empty() const { ptx::barrier_wait(empty_ + 8 * stage_, parity_ ^ 1); }
  __device__ __forceinline__ void announce(int bytes) const { ptx::barrier_arrive_expect(full(), bytes); }
  __device__ __forceinline__ void arrive() const { ptx::barrier_arrive(full()); }
  __device__ __forceinline__ std::uint32_t full() const { return full_ + 8 * stage_; }
  // Consumers.
  __device__ __forceinline__ void wait_full() const { ptx::barrier_wait(full(), parity_); }
  __device__ __forceinline__ void release() const { ptx::barrier_arrive(empty_ + 8 * stage_); }
  // In block `rank` of the cluster, for slots that several blocks' producers fill.
  __device__ __forceinline__ void release_in_cluster(int rank) const {
    ptx::barrier_arrive_in_cluster(empty_ + 8 * stage_, static_cast<std::uint32_t>(rank));
  }

 private:
  std::uint32_t full_, empty_;
  int stage_ = 0;
  std::uint32_t parity_ = 0;
};

// Numbers of work items on their way from the thread that draws them to the consumers.
class ItemRing {
 public:
  static constexpr int kBytes = Ring<2>::kBytes + 8;
  __device__ explicit ItemRing(std::uint32_t at) : ring_(at), slots_(at + Ring<2>::kBytes) {}
  __device__ void init(int consumers) const { ring_.init(1, consumers); }
  __device__ __forceinline__ void put(int index) {
    ring_.wait_empty();
    ptx::store_shared(slots_ + 4 * ring_.stage(), index);
    ring_.arrive();
    ring_.advance();
  }
  // By every consumer thread.
  __device__ __forceinline__ int take() {
    ring_.wait_full();
    const int index = ptx::load_shared(slots_ + 4 * ring_.stage());
    ring_.release();
    ring_.advance();
    return index;
  }

 private:
  Ring<2> ring_;
  std::uint32_t slots_;
};

// The first multiple of 1024 bytes in the block's dynamic shared memory, which has kTileAlignment bytes to spare for it.
inline constexpr int kTileAlignment = 1024;
__device__ __forceinline__ std::uint32_t first_tile(const void* dynamic_shared) {
  return (ptx::shared_address(dynamic_shared) + kTileAlignment - 1) & ~(kTileAlignment - 1u);
}

}  // namespace spillway::warpgroup
