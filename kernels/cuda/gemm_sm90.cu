// The products of our own GEMM (gemm_sm90.cuh), each with the elementwise kernel that would otherwise follow it: relu² of
// the feed-forward part's first layer, its derivative at the second layer's input gradient, RoPE and the norm of q and k at
// the fused projection. Each spares the reading and writing of a product's whole result.
//
// Tiles 128 × 256 × 64, clusters of 2, ring of 4, 2 + 1 warpgroups of 232 / 40 registers, 225 KiB of shared memory. On an H100
// 80GB, 2026-11-23, 32,768 rows, against cuBLASLt's product and a kernel in the same trial (large GEMM 814 TFLOP/s):
//   relu², 1280 → 5120              0.566 ms, 759 TFLOP/s · 0.753 ms
//   its derivative, 1280 → 5120     0.633 ms, 679 TFLOP/s · 0.866 ms
//   RoPE and QK norm, 1280 → 3840   0.500 ms, 645 TFLOP/s · 0.527 ms
// The product alone, nothing written: 822 TFLOP/s (cuBLASLt 801 with writing). See the README for what was tried.
#include "kernels/cuda/gemm_own.hpp"
#include "kernels/cuda/gemm_sm90.cuh"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

using namespace warpgroup;

constexpr int kAccumulators = kGemmColumns / 2;

// relu(c)², of c rounded as relu2_forward finds it.
struct Relu2Forward {
  static constexpr bool kAux = false;
  __device__ __forceinline__ void transform(float (&)[kAccumulators], int, int) const {}
  __device__ __forceinline__ std::uint32_t pack(float low, float high, std::uint32_t) const {
    return ptx::relu2_bf16(ptx::pack_bf16(low, high));
  }
};

// 2·√a·c
struct Relu2Backward {
  static constexpr bool kAux = true;
  __device__ __forceinline__ void transform(float (&)[kAccumulators], int, int) const {}
  __device__ __forceinline__ std::uint32_t pack(float low, float high, std::uint32_t a) const {
    return ptx::pack_bf16(2.0f * ptx::sqrt_fast(bf16_low(a)) * low,
                          2.0f * ptx::sqrt_fast(bf16_high(a)) * high);
  }
};

// q = norm_D(rope(q)), the same for k; v stays. See rope_qk_norm_forward.
template <int D>
struct RopeQkNorm {
  static constexpr bool kAux = false;
  float* rstd;
  const float *cosine, *sine;
  int rows, T, H;

  // Channels j and j + D/2 of a row are D/4 accumulators apart in the same thread; four lanes share a row.
  __device__ __forceinline__ void head(float (&c)[kAccumulators], int base, int first_row, int index) const {
    const int row = first_row + accumulator_row(0);
    float squares[2] = {};
    const float *cos[2], *sin[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = min(row + 8 * half, rows - 1) % T * (D / 2);
      cos[half] = cosine + place;
      sin[half] = sine + place;
    }
#pragma unroll
    for (int i = 0; i < D / 4; i += 2) {
      const int half = i % 4 / 2, j = accumulator_column(i);
      const float2 cos2 = *reinterpret_cast<const float2*>(cos[half] + j);
      const float2 sin2 = *reinterpret_cast<const float2*>(sin[half] + j);
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        float &x1 = c[base + i + odd], &x2 = c[base + i + odd + D / 4];
        const float cs = odd ? cos2.y : cos2.x, sn = odd ? sin2.y : sin2.x;
        const float y1 = x1 * cs + x2 * sn;
        x2 = x2 * cs - x1 * sn;
        x1 = y1;
        squares[half] += x1 * x1 + x2 * x2;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      squares[half] = rsqrtf(lane_sum<4>(squares[half]) / D + kNormEpsilon);
      if (threadIdx.x % 4 == 0 && row + 8 * half < rows)
        rstd[(static_cast<std::int64_t>(row + 8 * half) * 2 + index / H) * H + index % H] = squares[half];
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i) c[base + i] *= squares[i % 4 / 2];
  }

  __device__ __forceinline__ std::uint32_t pack(float low, float high, std::uint32_t) const {
    return ptx::pack_bf16(low, high);
  }
  __device__ __forceinline__ void transform(float (&c)[kAccumulators], int first_row, int column) const {
#pragma unroll
    for (int part = 0; part < kGemmColumns / D; ++part) {
      const int index = column / D + part;  // q's heads, then k's, then v's
      if (index < 2 * H) head(c, part * (D / 2), first_row, index);
    }
  }
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
