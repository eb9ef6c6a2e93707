// Our own matrix product for Hopper, D = f(A·Bᵀ) or f(A·B), where f is computed before the result leaves the registers:
// what cuBLASLt has no epilogue for. The epilogues are in gemm_sm90.cu.
//
// Persistent clusters of two blocks take tiles of 256 × 256 of D, each block 128 × 256. Both need the same part of B: each
// loads half of it into both (multicast), which spares a third of the reads from the L2 cache. In a block one producer
// thread keeps a ring of steps of 64 along k filled by the copy engine (TMA); two consumer warpgroups multiply 64 × 256
// each (wgmma).
//
// The tensor cores do not wait for an epilogue: a tile's results leave while the next tile is multiplied. At a tile's end a
// thread only rounds its 128 accumulators into 64 registers of bf16 pairs. What is left is cut into pieces: the epilogue's
// arithmetic on some of these registers, or a box of 64 × 64 that goes through shared memory to the copy engine. A thread
// does one piece at a time while two steps of the next tile are queued, of which the tensor cores still run the first. A
// matrix that the epilogue reads comes into the same boxes, one box ahead.
#pragma once

#include <algorithm>

#include "kernels/cuda/warpgroup.cuh"

namespace spillway::warpgroup {

inline constexpr int kGemmRows = 128, kGemmColumns = 256, kGemmDepth = 64;  // of D, of D, along k
inline constexpr int kGemmGroups = 2;                                       // consumer warpgroups
inline constexpr int kGemmCluster = 2;                                      // blocks, one above the other
// Clusters of rows whose tiles are neighbours in time: they share A and B in the L2 cache.
inline constexpr int kGemmBand = 8;
inline constexpr int kBoxBytes = kBoxRows * kRowBytes;
inline constexpr int kBoxesAcross = kGemmColumns / kBoxChannels;
inline constexpr int kResults = kGemmColumns / 4;            // registers of a thread, two bf16 each
inline constexpr int kBoxResults = kResults / kBoxesAcross;  // of them in a box

struct GemmShape {
  static constexpr int kStages = 4;
  static constexpr int kBoxes = 2;  // in shared memory, per warpgroup
  static constexpr int kThreadsInAll = (kGemmGroups + 1) * kThreads;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kProducerRegisters = 40;  // together what the launch gives, 3 · 168
  static constexpr int kABytes = kGemmRows * kRowBytes;
  static constexpr int kBBytes = kGemmColumns * kRowBytes;
  // Places in shared memory.
  static constexpr int kA = 0, kB = kA + kStages * kABytes, kOut = kB + kStages * kBBytes,
                       kBarriers = kOut + kGemmGroups * kBoxes * kBoxBytes,
                       kAuxBarriers = kBarriers + Ring<kStages>::kBytes;
  static constexpr int kSharedBytes = kTileAlignment + kBarriers + 256;
  static_assert(kAuxBarriers + kGemmGroups * kBoxes * 8 <= kBarriers + 256);
};

using GemmRing = Ring<GemmShape::kStages>;

struct GemmMaps {
  TensorMap A, B, D, aux;
};

struct GemmSizes {
  int m, n, k;
  __host__ __device__ int steps() const { return (k + kGemmDepth - 1) / kGemmDepth; }
};

// The tiles of a cluster's turns: kGemmBand clusters of rows, column by column, then the next band.
struct GemmTile {
  int row, column;  // of the cluster's first element
};
class GemmTiles {
 public:
  __host__ __device__ explicit GemmTiles(const GemmSizes& sizes)
      : rows_((sizes.m + kGemmRows * kGemmCluster - 1) / (kGemmRows * kGemmCluster)),
        columns_((sizes.n + kGemmColumns - 1) / kGemmColumns) {}
  __host__ __device__ int count() const { return rows_ * columns_; }
  __device__ __forceinline__ GemmTile at(int index) const {
    const int band = index / (kGemmBand * columns_), rest = index % (kGemmBand * columns_);
    const int band_rows = min(kGemmBand, rows_ - band * kGemmBand);
    return {(band * kGemmBand + rest % band_rows) * kGemmRows * kGemmCluster,
            rest / band_rows * kGemmColumns};
  }
  // Of this block's cluster.
  __device__ __forceinline__ static int first() { return static_cast<int>(blockIdx.x) / kGemmCluster; }
  __device__ __forceinline__ static int stride() { return static_cast<int>(gridDim.x) / kGemmCluster; }

 private:
  int rows_, columns_;
};

// One thread: fills the ring with the steps along k. kTransposed: B is (k, n) in memory, else (n, k).
template <int kTransposed>
__device__ void gemm_produce(std::uint32_t shared, GemmRing ring, const GemmMaps& maps,
                             const GemmSizes& sizes) {
  const GemmTiles tiles(sizes);
  const int rank = static_cast<int>(ptx::cluster_rank());
  constexpr std::uint16_t kAll = (1 << kGemmCluster) - 1;
  for (int index = GemmTiles::first(); index < tiles.count(); index += GemmTiles::stride()) {
    const GemmTile tile = tiles.at(index);
    const int row = tile.row + rank * kGemmRows;
    for (int k = 0; k < sizes.k; k += kGemmDepth) {
      ring.wait_empty();
      ring.announce(GemmShape::kABytes + GemmShape::kBBytes);
      const std::uint32_t a = shared + GemmShape::kA + ring.stage() * GemmShape::kABytes;
      const std::uint32_t b = shared + GemmShape::kB + ring.stage() * GemmShape::kBBytes;
      ptx::tensor_load(a, &maps.A, ring.full(), k, 0, row, 0);
      const int first = rank * kGemmColumns / kGemmCluster;  // this block's half of the columns
      if constexpr (kTransposed)
        ptx::tensor_load_multicast(b + first * kRowBytes, &maps.B, ring.full(), kAll, 0, k,
                                   (tile.column + first) / kBoxChannels, 0);
      else
        ptx::tensor_load_multicast(b + first * kRowBytes, &maps.B, ring.full(), kAll, k, 0,
                                   tile.column + first, 0);
      ring.advance();
    }
  }
}

// c = this warpgroup's 64 × 256 of A·B over one slot of the ring, added to what is there if `accumulate`.
template <int kTransposed>
__device__ __forceinline__ void gemm_multiply(float (&c)[kGemmColumns / 2], std::uint32_t a, std::uint32_t b,
                                              int group, bool accumulate) {
  const std::uint64_t left = along_channels<kGemmRows>(a, 64 * group, 0);
  const std::uint64_t right =
      kTransposed ? along_rows<kGemmDepth>(b, 0) : along_channels<kGemmColumns>(b, 0, 0);
#pragma unroll
  for (int step = 0; step < kGemmDepth / 16; ++step) {
    ptx::product<kTransposed>(c, further(left, step * 32),
                              further(right, step * (kTransposed ? 16 * kRowBytes : 32)),
                              accumulate || step > 0);
  }
}

// The finished tiles of one warpgroup, on their way from its registers to D.
template <class Epilogue>
class GemmWriter {
 public:
  static constexpr int kPieces = Epilogue::kPieces + kBoxesAcross;

  __device__ GemmWriter(std::uint32_t shared, const GemmMaps& maps, const GemmTiles& tiles)
      : maps_(maps),
        tiles_(tiles),
        boxes_(shared + GemmShape::kOut + group() * GemmShape::kBoxes * kBoxBytes),
        aux_(shared + GemmShape::kAuxBarriers + group() * GemmShape::kBoxes * 8) {
    if (Epilogue::kAux && elected()) load_aux(0, tiles.at(GemmTiles::first()));
    __syncwarp();
  }

  // One thread of the block, before any warpgroup begins.
  __device__ static void init(std::uint32_t shared) {
    if constexpr (Epilogue::kAux)
      for (int i = 0; i < kGemmGroups * GemmShape::kBoxes; ++i)
        ptx::barrier_init(shared + GemmShape::kAuxBarriers + 8 * i, 1);
  }

  // The elements of a finished tile, rounded. All pieces of the tile before must be done.
  __device__ __forceinline__ void take(const float (&c)[kGemmColumns / 2]) {
#pragma unroll
    for (int i = 0; i < kResults; ++i) results_[i] = ptx::pack_bf16(c[2 * i], c[2 * i + 1]);
    ptx::hold(results_);  // rounded now, not where they are used: the next products write to c
  }

  // All pieces in turn, by all threads of the warpgroup. next: index of the tile after the finished one, perhaps beyond the
  // last.
  __device__ __forceinline__ void piece(int number, const Epilogue& epilogue, int next) {
    if (number == 0) tile_ = tiles_.at(next - GemmTiles::stride());
    if (number < Epilogue::kPieces)
      epilogue.piece(number, results_, state_, own_row(tile_), tile_.column);
    else
      write(number - Epilogue::kPieces, epilogue, next);
  }

  // Before the block ends: its shared memory outlives the last store.
  __device__ __forceinline__ void finish() const {
    if (elected()) ptx::tensor_store_wait_read();
  }

 private:
  __device__ __forceinline__ static int group() { return threadIdx.x / kThreads; }
  __device__ __forceinline__ static bool elected() { return threadIdx.x % kThreads == 0; }
  __device__ __forceinline__ static int own_row(const GemmTile& tile) {
    return tile.row + static_cast<int>(ptx::cluster_rank()) * kGemmRows + 64 * group();
  }
  __device__ __forceinline__ std::uint32_t place(int box) const {
    return boxes_ + box % GemmShape::kBoxes * kBoxBytes;
  }
  __device__ __forceinline__ std::uint32_t aux_barrier(int box) const {
    return aux_ + box % GemmShape::kBoxes * 8;
  }

  // One thread: what the epilogue reads for a box, into the place of that box.
  __device__ __forceinline__ void load_aux(int box, const GemmTile& tile) const {
    ptx::barrier_arrive_expect(aux_barrier(box), kBoxBytes);
    ptx::tensor_load(place(box), &maps_.aux, aux_barrier(box), tile.column + box * kBoxChannels, 0,
                     own_row(tile), 0);
  }

  // A box is filled after the barrier of the box before it, and that barrier comes after the wait for the last store from
  // the same place. So one barrier per box is enough, and the next box's part of aux may come as soon as that wait is over.
  __device__ __forceinline__ void write(int box, const Epilogue& epilogue, int next) {
    if (elected()) {
      ptx::tensor_store_wait_read();
      if (Epilogue::kAux && box + 1 < kBoxesAcross) load_aux(box + 1, tile_);
      if (Epilogue::kAux && box + 1 == kBoxesAcross && next < tiles_.count()) load_aux(0, tiles_.at(next));
    }
    __syncwarp();
    // Each place serves a tile an even number of times, so every tile begins with the same parity.
    static_assert(kBoxesAcross / GemmShape::kBoxes % 2 == 0);
    if constexpr (Epilogue::kAux) ptx::barrier_wait(aux_barrier(box), box / GemmShape::kBoxes % 2);
#pragma unroll
    for (int pair = 0; pair < kBoxChannels / 16; ++pair) {
      const std::uint32_t address = accumulator_address(place(box), pair);
      std::uint32_t value[4], aux[4] = {};
      if constexpr (Epilogue::kAux) ptx::load_matrix_x4(address, aux);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        value[i] = epilogue.result(results_[box * kBoxResults + pair * 4 + i], aux[i]);
      ptx::store_matrix_x4(address, value[0], value[1], value[2], value[3]);
    }
    ptx::fence_async_proxy();
    ptx::named_barrier_sync(1 + group(), kThreads);
    if (elected()) {
      ptx::tensor_store(&maps_.D, place(box), tile_.column + box * kBoxChannels, 0, own_row(tile_), 0);
      ptx::tensor_store_commit();
    }
    __syncwarp();
  }

  const GemmMaps& maps_;
  GemmTiles tiles_;
  GemmTile tile_;  // the finished one
  std::uint32_t boxes_, aux_;
  std::uint32_t results_[kResults];
  typename Epilogue::State state_;
};

// One warpgroup: its rows of each tile.
template <int kTransposed, class Epilogue>
class GemmConsumer {
 public:
  __device__ GemmConsumer(std::uint32_t shared, const GemmRing& ring)
      : shared_(shared), group_(threadIdx.x / kThreads), ring_(ring), done_(ring) {}

  __device__ __forceinline__ void run(const Epilogue& epilogue, const GemmMaps& maps,
                                      const GemmSizes& sizes) {
    using Writer = GemmWriter<Epilogue>;
    const GemmTiles tiles(sizes);
    const int steps = sizes.steps(), first = GemmTiles::first();
    // Pieces are spread over the steps; the two warpgroups, which share execution units, take them at different times.
    const int spacing = max((steps - 2) / Writer::kPieces, 1), offset = group_ * (spacing / 2);
    Writer writer(shared_, maps, tiles);
    int index = first;
    for (; index < tiles.count(); index += GemmTiles::stride()) {
      int step = 0;
      queue(step);
      multiply(step, min(2 + offset, steps));
#pragma unroll
      for (int piece = 0; piece < Writer::kPieces; ++piece) {
        if (index > first) writer.piece(piece, epilogue, index);
        multiply(step, min(step + spacing, steps));
      }
      multiply(step, steps);
      if (steps > 1) wait<1>();
      wait<0>();
      ptx::hold(c_);
      writer.take(c_);
    }
#pragma unroll
    for (int piece = 0; piece < Writer::kPieces; ++piece) writer.piece(piece, epilogue, index);
    writer.finish();
  }

 private:
  // Queues the products of one step of a tile.
  __device__ __forceinline__ void queue(int& step) {
    ring_.wait_full();
    ptx::hold(c_);
    ptx::products_begin();
    gemm_multiply<kTransposed>(c_, shared_ + GemmShape::kA + ring_.stage() * GemmShape::kABytes,
                               shared_ + GemmShape::kB + ring_.stage() * GemmShape::kBBytes, group_,
                               step > 0);
    ptx::products_commit();
    ring_.advance();
    ++step;
  }

  // Waits until at most kPending steps are unfinished and lets go of the slot before theirs, in both blocks: each fills
  // half of both.
  template <int kPending>
  __device__ __forceinline__ void wait() {
    ptx::products_wait<kPending>();
    if (threadIdx.x % kThreads < kGemmCluster) done_.release_in_cluster(threadIdx.x % kThreads);
    done_.advance();
  }

  // Queues the tile's steps up to `stop`. Two may be unfinished then, so whoever calls has time.
  __device__ __forceinline__ void multiply(int& step, int stop) {
#pragma unroll 1
    while (step < stop) {
      if (step > 1) wait<1>();
      queue(step);
    }
  }

  std::uint32_t shared_;
  int group_;
  GemmRing ring_, done_;  // done_: the oldest slot not yet let go of
  float c_[kGemmColumns / 2];
};

template <int kTransposed, class Epilogue>
__global__ void __launch_bounds__(GemmShape::kThreadsInAll, 1)
    gemm_kernel(const __grid_constant__ GemmMaps maps, const Epilogue epilogue, const GemmSizes sizes) {
  extern __shared__ char dynamic_shared[];
  const std::uint32_t shared = first_tile(dynamic_shared);
  const GemmRing ring(shared + GemmShape::kBarriers);
  if (threadIdx.x == 0) {
    ring.init(1, kGemmGroups * kGemmCluster);
    GemmWriter<Epilogue>::init(shared);
    ptx::fence_barrier_init();
  }
  ptx::cluster_sync();
  if (threadIdx.x / kThreads == kGemmGroups) {
    ptx::give_registers<GemmShape::kProducerRegisters>();
    if (threadIdx.x % kThreads == 0) gemm_produce<kTransposed>(shared, ring, maps, sizes);
    __syncwarp();
  } else {
    ptx::take_registers<GemmShape::kConsumerRegisters>();
    GemmConsumer<kTransposed, Epilogue>(shared, ring).run(epilogue, maps, sizes);
  }
  ptx::cluster_sync();  // the other block may still write here and let go of slots here
}

// D (m, n) = epilogue(A·Bᵀ), or epilogue(A·B) if kTransposed. A: (m, k)  B: (n, k), or (k, n)  aux: (m, n) or null.
// n and k are multiples of 8, with kTransposed n of 64; pointers are 16-byte aligned. Throws std::runtime_error where the
// driver refuses.
template <int kTransposed, class Epilogue>
void launch_gemm(const Cuda& device, const Epilogue& epilogue, bf16* D, const bf16* A, const bf16* B,
                 const bf16* aux, const GemmSizes& sizes) {
  const auto map_of = [](const bf16* matrix, int rows, int columns, int box_rows) {
    return make_tensor_map(matrix, 1, rows, 1, columns, columns, box_rows);
  };
  constexpr int kOwnColumns = kGemmColumns / kGemmCluster;
  const GemmMaps maps = {map_of(A, sizes.m, sizes.k, kGemmRows),
                         kTransposed ? make_column_map(B, sizes.k, sizes.n, kOwnColumns / kBoxChannels)
                                     : map_of(B, sizes.n, sizes.k, kOwnColumns),
                         map_of(D, sizes.m, sizes.n, kBoxRows),
                         aux != nullptr ? map_of(aux, sizes.m, sizes.n, kBoxRows) : TensorMap()};
  const auto kernel = gemm_kernel<kTransposed, Epilogue>;
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, GemmShape::kSharedBytes));
  const int clusters = std::min(GemmTiles(sizes).count(), device.multiprocessors() / kGemmCluster);
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kGemmCluster, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(clusters * kGemmCluster));
  config.blockDim = dim3(GemmShape::kThreadsInAll);
  config.dynamicSmemBytes = GemmShape::kSharedBytes;
  config.stream = device.stream();
  config.attrs = &cluster;
  config.numAttrs = 1;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, maps, epilogue, sizes));
}

}  // namespace spillway::warpgroup
