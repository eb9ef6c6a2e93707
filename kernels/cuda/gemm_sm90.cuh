// Our own matrix product for Hopper, D = f(A·Bᵀ) or f(A·B), where f is computed on the accumulators before they leave the
// registers: what cuBLASLt has no epilogue for. The epilogues are in gemm_sm90.cu.
//
// Persistent clusters of two blocks take tiles of 256 × 256 of D, each block 128 × 256. Both need the same part of B: each
// loads half of it into both (multicast), which spares a third of the reads from the L2 cache. In a block one producer
// thread keeps a ring of steps of 64 along k filled by the copy engine (TMA); two consumer warpgroups multiply 64 × 256
// each (wgmma). Results go through shared memory in boxes of 64 × 64, which the copy engine writes out while the next tile
// is multiplied. A matrix that the epilogue reads comes through slots of the same ring, after the tile's last step.
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
inline constexpr int kAuxBoxes = 2;  // of the matrix that an epilogue reads, per slot of the ring

struct GemmShape {
  static constexpr int kStages = 4;
  static constexpr int kBoxes = 2;  // of results, per warpgroup
  static constexpr int kThreadsInAll = (kGemmGroups + 1) * kThreads;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kProducerRegisters = 40;  // together what the launch gives, 3 · 168
  static constexpr int kABytes = kGemmRows * kRowBytes;
  static constexpr int kBBytes = kGemmColumns * kRowBytes;
  // Places in shared memory.
  static constexpr int kA = 0, kB = kA + kStages * kABytes, kOut = kB + kStages * kBBytes,
                       kBarriers = kOut + kGemmGroups * kBoxes * kBoxBytes;
  static constexpr int kSharedBytes = kTileAlignment + kBarriers + 256;
};

using GemmRing = Ring<GemmShape::kStages>;

struct GemmMaps {
  TensorMap A, B, D, aux;
};

struct GemmSizes {
  int m, n, k;
};

// The tile of a cluster's turn: kGemmBand clusters of rows, column by column, then the next band.
struct GemmTile {
  int row, column;  // of the cluster's first element
};
__device__ __forceinline__ GemmTile gemm_tile_at(int index, int tile_rows, int tile_columns) {
  const int band = index / (kGemmBand * tile_columns), rest = index % (kGemmBand * tile_columns);
  const int band_rows = min(kGemmBand, tile_rows - band * kGemmBand);
  return {(band * kGemmBand + rest % band_rows) * kGemmRows * kGemmCluster, rest / band_rows * kGemmColumns};
}

// One thread: fills the ring with the steps along k and, with kAux, with the matrix that the epilogue reads.
// kTransposed: B is (k, n) in memory, else (n, k).
template <int kTransposed, bool kAux>
__device__ void gemm_produce(std::uint32_t shared, GemmRing ring, const GemmMaps& maps,
                             const GemmSizes& sizes, int tile_rows, int tile_columns) {
  const int rank = static_cast<int>(ptx::cluster_rank());
  constexpr std::uint16_t kAll = (1 << kGemmCluster) - 1;
  for (int index = blockIdx.x / kGemmCluster; index < tile_rows * tile_columns;
       index += gridDim.x / kGemmCluster) {
    const GemmTile tile = gemm_tile_at(index, tile_rows, tile_columns);
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
    for (int box = 0; box < kBoxesAcross && kAux; box += kAuxBoxes) {
      ring.wait_empty();
      ring.announce(kAuxBoxes * kGemmRows * kRowBytes);
#pragma unroll
      for (int i = 0; i < kAuxBoxes; ++i)
        ptx::tensor_load(
            shared + GemmShape::kB + ring.stage() * GemmShape::kBBytes + i * kGemmRows * kRowBytes, &maps.aux,
            ring.full(), tile.column + (box + i) * kBoxChannels, 0, row, 0);
      ring.advance();
    }
  }
}

// c = this warpgroup's 64 × 256 of A·B over one slot of the ring, added to what is there if `accumulate`.
template <int kTransposed>
__device__ __forceinline__ void gemm_multiply(float (&c)[kGemmColumns / 2], std::uint32_t a, std::uint32_t b,
                                              int group, bool accumulate) {
#pragma unroll
  for (int step = 0; step < kGemmDepth / 16; ++step) {
    const std::uint64_t right =
        kTransposed ? along_rows<kGemmDepth>(b, step) : along_channels<kGemmColumns>(b, 0, step);
    ptx::product<kTransposed>(c, along_channels<kGemmRows>(a, 64 * group, step), right,
                              accumulate || step > 0);
  }
}

// One warpgroup: its rows of each tile.
template <int kTransposed, class Epilogue>
class GemmConsumer {
 public:
  __device__ GemmConsumer(std::uint32_t shared, const GemmRing& ring, const GemmMaps& maps)
      : maps_(maps),
        shared_(shared),
        group_(threadIdx.x / kThreads),
        boxes_(shared + GemmShape::kOut + group_ * GemmShape::kBoxes * kBoxBytes),
        elected_(threadIdx.x % kThreads == 0),
        ring_(ring),
        done_(ring) {}

  __device__ __forceinline__ void run(const Epilogue& epilogue, const GemmSizes& sizes, int tile_rows,
                                      int tile_columns) {
    const int own_row = static_cast<int>(ptx::cluster_rank()) * kGemmRows + 64 * group_;
    for (int index = blockIdx.x / kGemmCluster; index < tile_rows * tile_columns;
         index += gridDim.x / kGemmCluster) {
      const GemmTile tile = gemm_tile_at(index, tile_rows, tile_columns);
      float c[kGemmColumns / 2];
      multiply(c, sizes.k);
      epilogue.transform(c, tile.row + own_row, tile.column);
      write(epilogue, c, tile.row + own_row, tile.column);
    }
    if (elected_) ptx::tensor_store_wait_read();  // the block's shared memory outlives its last store
  }

 private:
  // Lets go of the oldest slot in both blocks: each fills half of both.
  __device__ __forceinline__ void release() {
    if (threadIdx.x % kThreads < kGemmCluster) done_.release_in_cluster(threadIdx.x % kThreads);
    done_.advance();
  }

  // The next step's products are queued before the last ones are waited for.
  __device__ __forceinline__ void multiply(float (&c)[kGemmColumns / 2], int depth) {
    for (int k = 0; k < depth; k += kGemmDepth) {
      ring_.wait_full();
      ptx::hold(c);
      ptx::products_begin();
      gemm_multiply<kTransposed>(c, shared_ + GemmShape::kA + ring_.stage() * GemmShape::kABytes,
                                 shared_ + GemmShape::kB + ring_.stage() * GemmShape::kBBytes, group_, k > 0);
      ptx::products_commit();
      ring_.advance();
      if (k > 0) {
        ptx::products_wait<1>();
        release();
      }
    }
    ptx::products_wait<0>();
    ptx::hold(c);
    release();
  }

  __device__ __forceinline__ void write(const Epilogue& epilogue, const float (&c)[kGemmColumns / 2], int row,
                                        int column) {
#pragma unroll
    for (int box = 0; box < kBoxesAcross; ++box) {
      const std::uint32_t place = boxes_ + box % GemmShape::kBoxes * kBoxBytes;
      if (Epilogue::kAux && box % kAuxBoxes == 0) ring_.wait_full();
      const std::uint32_t aux_place = shared_ + GemmShape::kB + ring_.stage() * GemmShape::kBBytes +
                                      (box % kAuxBoxes * kGemmRows + 64 * group_) * kRowBytes;
      if (elected_) ptx::tensor_store_wait_read<GemmShape::kBoxes - 1>();
      ptx::named_barrier_sync(1 + group_, kThreads);
#pragma unroll
      for (int pair = 0; pair < kBoxChannels / 16; ++pair) {
        std::uint32_t packed[4], aux[4] = {};
        if constexpr (Epilogue::kAux) ptx::load_matrix_x4(accumulator_address(aux_place, pair), aux);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int first = box * (kBoxChannels / 2) + pair * 8 + 2 * i;
          packed[i] = epilogue.pack(c[first], c[first + 1], aux[i]);
        }
        ptx::store_matrix_x4(accumulator_address(place, pair), packed[0], packed[1], packed[2], packed[3]);
      }
      ptx::fence_async_proxy();
      ptx::named_barrier_sync(1 + group_, kThreads);
      if (elected_) {
        ptx::tensor_store(&maps_.D, place, column + box * kBoxChannels, 0, row, 0);
        ptx::tensor_store_commit();
      }
      if (Epilogue::kAux && box % kAuxBoxes == kAuxBoxes - 1) {
        release();
        ring_.advance();
      }
    }
    __syncwarp();
  }

  const GemmMaps& maps_;
  std::uint32_t shared_;
  int group_;
  std::uint32_t boxes_;
  bool elected_;
  GemmRing ring_, done_;  // done_: the oldest slot not yet let go of
};

template <int kTransposed, class Epilogue>
__global__ void __launch_bounds__(GemmShape::kThreadsInAll, 1)
    gemm_kernel(const __grid_constant__ GemmMaps maps, const Epilogue epilogue, const GemmSizes sizes) {
  extern __shared__ char dynamic_shared[];
  const std::uint32_t shared = first_tile(dynamic_shared);
  const GemmRing ring(shared + GemmShape::kBarriers);
  if (threadIdx.x == 0) {
    ring.init(1, kGemmGroups * kGemmCluster);
    ptx::fence_barrier_init();
  }
  ptx::cluster_sync();
  const int tile_rows = (sizes.m + kGemmRows * kGemmCluster - 1) / (kGemmRows * kGemmCluster);
  const int tile_columns = (sizes.n + kGemmColumns - 1) / kGemmColumns;
  if (threadIdx.x / kThreads == kGemmGroups) {
    ptx::give_registers<GemmShape::kProducerRegisters>();
    if (threadIdx.x % kThreads == 0)
      gemm_produce<kTransposed, Epilogue::kAux>(shared, ring, maps, sizes, tile_rows, tile_columns);
    __syncwarp();
  } else {
    ptx::take_registers<GemmShape::kConsumerRegisters>();
    GemmConsumer<kTransposed, Epilogue>(shared, ring, maps).run(epilogue, sizes, tile_rows, tile_columns);
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
                         aux != nullptr ? map_of(aux, sizes.m, sizes.n, kGemmRows) : TensorMap()};
  const auto kernel = gemm_kernel<kTransposed, Epilogue>;
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, GemmShape::kSharedBytes));
  const int clusters = std::min(ceil_div(sizes.m, kGemmRows * kGemmCluster) * ceil_div(sizes.n, kGemmColumns),
                                device.multiprocessors() / kGemmCluster);
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
