// The products of our own GEMM (gemm_sm90.cuh), each with the elementwise kernel that would otherwise follow it: relu² of
// the feed-forward part's first layer, its derivative at the second layer's input gradient, RoPE and the norm of q and k at
// the fused projection. Each spares the reading and writing of a product's whole result.
//
// Tiles 128 × 256 × 64, clusters of 2, ring of 4, 2 + 1 warpgroups of 232 / 40 registers (128 accumulators, 64 of the tile
// before; no spills), 225 KiB of shared memory. Why not ping-pong, two warpgroups with whole tiles in turn, which hides the
// epilogue too: with accumulators for two whole tiles 128 × 128 is what fits, and that reads 1.5 times as much from the L2
// cache per product (48 instead of 32 bytes per clock and multiprocessor) and 96 instead of 80 bytes per clock from shared
// memory. Tiles waiting as bf16 cost half the registers.
// On an H100 80GB, 2026-11-23, 32,768 rows, with the epilogue at the end of each tile, against cuBLASLt's product and a
// kernel in the same trial (large GEMM 814 TFLOP/s):
//   relu², 1280 → 5120              0.566 ms, 759 TFLOP/s · 0.753 ms
//   its derivative, 1280 → 5120     0.633 ms, 679 TFLOP/s · 0.866 ms
//   RoPE and QK norm, 1280 → 3840   0.500 ms, 645 TFLOP/s · 0.527 ms
// The product alone, nothing written: 822 TFLOP/s (cuBLASLt 801 with writing). With the epilogue under the next tile's
// products, on an H200 at its power limit, 2026-11-28, against cuBLASLt's product and a kernel in turns (`bench --ops`):
//   relu², 1280 → 5120              0.638 ms, 674 TFLOP/s · 0.811 ms
//   its derivative, 1280 → 5120     0.702 ms, 612 TFLOP/s · 0.899 ms
//   RoPE and QK norm, 1280 → 3840   0.569 ms, 566 TFLOP/s · 0.611 ms
// See the README for what was tried.
#include "kernels/cuda/gemm_own.hpp"
#include "kernels/cuda/gemm_sm90.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

using namespace warpgroup;

// An epilogue works on a finished tile's elements c, rounded to bf16 as a product of its own would leave them, two in a
// register: first in kPieces calls of piece(), which may change them, then with result() as they leave. With kAux, result()
// also gets the same two elements of the matrix that it reads.

// relu(c)²
struct Relu2Forward {
  static constexpr bool kAux = false;
  static constexpr int kPieces = 0;
  struct State {};
  __device__ __forceinline__ void piece(int, std::uint32_t (&)[kResults], State&, int, int) const {}
  __device__ __forceinline__ std::uint32_t result(std::uint32_t c, std::uint32_t) const {
    return ptx::relu2_bf16(c);
  }
};

// 2·√a·c
struct Relu2Backward {
  static constexpr bool kAux = true;
  static constexpr int kPieces = 0;
  struct State {};
  __device__ __forceinline__ void piece(int, std::uint32_t (&)[kResults], State&, int, int) const {}
  __device__ __forceinline__ std::uint32_t result(std::uint32_t c, std::uint32_t a) const {
    return ptx::pack_bf16(2.0f * ptx::sqrt_fast(bf16_low(a)) * bf16_low(c),
                          2.0f * ptx::sqrt_fast(bf16_high(a)) * bf16_high(c));
  }
};

// q = norm_D(rope(q)), the same for k; v stays. See rope_qk_norm_forward. Rotations keep the squares' sum, so the norm comes
// first.
template <int D>
struct RopeQkNorm {
  static constexpr bool kAux = false;
  static constexpr int kHeads = kGemmColumns / D;  // in a tile
  static constexpr int kHeadResults = kResults / kHeads;
  // In a piece: 8 channels of the first half of each head, with those of the second half; so there are 9 pieces in all.
  static constexpr int kRotations = D / 64;
  static constexpr int kPieces = 1 + D / 2 / 8 / kRotations;  // the norms come first
  struct State {
    float scale[kHeads][2];  // of this thread's two rows
  };
  float* rstd;
  const float *cosine, *sine;
  int rows, T, H;

  // Four lanes share a row; the registers of its rows alternate.
  __device__ __forceinline__ void norm(const std::uint32_t (&results)[kResults], State& state, int row,
                                       int part, int index) const {
    float squares[2] = {};
#pragma unroll
    for (int i = 0; i < kHeadResults; ++i) {
      const std::uint32_t c = results[part * kHeadResults + i];
      squares[i % 2] += bf16_low(c) * bf16_low(c);
      squares[i % 2] += bf16_high(c) * bf16_high(c);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float scale = rsqrtf(lane_sum<4>(squares[half]) / D + kNormEpsilon);
      if (threadIdx.x % 4 == 0 && row + 8 * half < rows)
        rstd[(static_cast<std::int64_t>(row + 8 * half) * 2 + index / H) * H + index % H] = scale;
      state.scale[part][half] = scale;
    }
  }

  // Channels j and j + D/2 of a row are in registers of the same thread.
  __device__ __forceinline__ static void rotate(std::uint32_t& x1, std::uint32_t& x2, const float2& cosine2,
                                                const float2& sine2, float scale) {
    const float low1 = bf16_low(x1), high1 = bf16_high(x1), low2 = bf16_low(x2), high2 = bf16_high(x2);
    x1 = ptx::pack_bf16((low1 * cosine2.x + low2 * sine2.x) * scale,
                        (high1 * cosine2.y + high2 * sine2.y) * scale);
    x2 = ptx::pack_bf16((low2 * cosine2.x - low1 * sine2.x) * scale,
                        (high2 * cosine2.y - high1 * sine2.y) * scale);
  }

  __device__ __forceinline__ void piece(int number, std::uint32_t (&results)[kResults], State& state,
                                        int first_row, int column) const {
    const int row = first_row + accumulator_row(0), first_head = column / D;  // q's heads, then k's, then v's
    if (number == 0) {
#pragma unroll
      for (int part = 0; part < kHeads; ++part)
        if (first_head + part < 2 * H) norm(results, state, row, part, first_head + part);
      return;
    }
    if (first_head >= 2 * H) return;
#pragma unroll
    for (int i = 0; i < 2 * kRotations; ++i) {
      const int first = 2 * kRotations * (number - 1) + i;  // register of a head
      const int place = min(row + 8 * (i % 2), rows - 1) % T * (D / 2) + accumulator_column(2 * first);
      const float2 cosine2 = *reinterpret_cast<const float2*>(cosine + place);
      const float2 sine2 = *reinterpret_cast<const float2*>(sine + place);
#pragma unroll
      for (int part = 0; part < kHeads; ++part)
        if (first_head + part < 2 * H)
          rotate(results[part * kHeadResults + first],
                 results[part * kHeadResults + kHeadResults / 2 + first], cosine2, sine2,
                 state.scale[part][i % 2]);
    }
  }
  __device__ __forceinline__ std::uint32_t result(std::uint32_t c, std::uint32_t) const { return c; }
};

}  // namespace

bool own_gemm_serves(const void* D, const void* A, const void* B, int n, int k) {
  return n % kVector == 0 && k % kVector == 0 && is_aligned(D, 16) && is_aligned(A, 16) && is_aligned(B, 16);
}

void own_linear_relu2_forward(Cuda& device, bf16* a, const bf16* x, const bf16* W, int rows, int in,
                              int out) {
  launch_gemm<0>(device, Relu2Forward(), a, x, W, nullptr, {rows, out, in});
}

void own_linear_relu2_backward(Cuda& device, bf16* dh, const bf16* dy, const bf16* W, const bf16* a, int rows,
                               int in, int out) {
  launch_gemm<1>(device, Relu2Backward(), dh, dy, W, a, {rows, in, out});
}

void own_qkv_forward(Cuda& device, bf16* qkv, float* rstd, const bf16* x, const bf16* W, const float* cosine,
                     const float* sine, int B, int T, int H, int D) {
  const int rows = B * T, C = H * D;
  const auto run = [&](auto dim) {
    RopeQkNorm<dim()> epilogue;
    epilogue.rstd = rstd, epilogue.cosine = cosine, epilogue.sine = sine;
    epilogue.rows = rows, epilogue.T = T, epilogue.H = H;
    launch_gemm<0>(device, epilogue, qkv, x, W, nullptr, {rows, 3 * C, C});
  };
  SHAPE_CHECK(D == 64 || D == 128, "the head dimension must be 64 or 128");
  if (D == 64)
    run(std::integral_constant<int, 64>());
  else
    run(std::integral_constant<int, 128>());
}

}  // namespace spillway
