// RoPE and the RMS norm of q and k, in place on the fused projection. kLanes = D/16 neighbouring lanes share one head:
// each holds 8 channels j and their partners j + D/2.
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/head_dim.hpp"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

constexpr int kThreads = 256;

// Which part of which head a thread has.
struct HeadPart {
  bool active;
  std::int64_t row;
  int head, j;  // channels j … j+7
};

template <int D>
__device__ __forceinline__ HeadPart head_part(std::int64_t rows, int H) {
  constexpr int kLanes = D / 16;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row_and_head = index / kLanes;
  return {row_and_head < rows * H, row_and_head / H, static_cast<int>(row_and_head % H),
          static_cast<int>(index % kLanes) * kVector};
}

template <int D>
__global__ void __launch_bounds__(kThreads)
    rope_qk_norm_forward_kernel(bf16* __restrict__ qkv, float* __restrict__ rstd,
                                const float* __restrict__ cosine, const float* __restrict__ sine,
                                std::int64_t rows, int T, int H) {
  const HeadPart part = head_part<D>(rows, H);
  float cos[kVector] = {}, sin[kVector] = {};
  if (part.active) {
    const int t = static_cast<int>(part.row % T);
    load_floats(cos, cosine + t * (D / 2) + part.j);
    load_floats(sin, sine + t * (D / 2) + part.j);
  }
#pragma unroll
  for (int which = 0; which < 2; ++which) {  // q, k
    bf16* place = qkv + ((part.row * 3 + which) * H + part.head) * D + part.j;
    float x1[kVector] = {}, x2[kVector] = {}, squares = 0;
    if (part.active) {
      unpack(x1, *vectors(place));
      unpack(x2, *vectors(place + D / 2));
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float y1 = x1[i] * cos[i] + x2[i] * sin[i];
      x2[i] = x2[i] * cos[i] - x1[i] * sin[i];
      x1[i] = y1;
      squares += x1[i] * x1[i] + x2[i] * x2[i];
    }
    const float r = rsqrtf(lane_sum<D / 16>(squares) / D + kNormEpsilon);
    if (!part.active) continue;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      x1[i] *= r;
      x2[i] *= r;
    }
    *vectors(place) = pack(x1);
    *vectors(place + D / 2) = pack(x2);
    if (part.j == 0) rstd[(part.row * 2 + which) * H + part.head] = r;
  }
}

// d(rotated) = rstd·(dy − y·mean(dy·y)), then the rotation by +θ.
template <int D>
__global__ void __launch_bounds__(kThreads)
    rope_qk_norm_backward_kernel(bf16* __restrict__ dqkv, const bf16* __restrict__ qkv,
                                 const float* __restrict__ rstd, const float* __restrict__ cosine,
                                 const float* __restrict__ sine, std::int64_t rows, int T, int H) {
  const HeadPart part = head_part<D>(rows, H);
  float cos[kVector] = {}, sin[kVector] = {};
  if (part.active) {
    const int t = static_cast<int>(part.row % T);
    load_floats(cos, cosine + t * (D / 2) + part.j);
    load_floats(sin, sine + t * (D / 2) + part.j);
  }
#pragma unroll
  for (int which = 0; which < 2; ++which) {  // q, k
    const std::int64_t offset = ((part.row * 3 + which) * H + part.head) * D + part.j;
    float d1[kVector] = {}, d2[kVector] = {}, y1[kVector] = {}, y2[kVector] = {}, dot = 0;
    if (part.active) {
      unpack(d1, *vectors(dqkv + offset));
      unpack(d2, *vectors(dqkv + offset + D / 2));
      unpack(y1, *vectors(qkv + offset));
      unpack(y2, *vectors(qkv + offset + D / 2));
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) dot += d1[i] * y1[i] + d2[i] * y2[i];
    const float mean = lane_sum<D / 16>(dot) / D;
    if (!part.active) continue;
    const float r = rstd[(part.row * 2 + which) * H + part.head];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float r1 = r * (d1[i] - y1[i] * mean), r2 = r * (d2[i] - y2[i] * mean);
      d1[i] = r1 * cos[i] - r2 * sin[i];
      d2[i] = r1 * sin[i] + r2 * cos[i];
    }
    *vectors(dqkv + offset) = pack(d1);
    *vectors(dqkv + offset + D / 2) = pack(d2);
  }
}

}  // namespace

void rope_qk_norm_forward(Cuda& device, bf16* qkv, float* rstd, const float* cosine, const float* sine, int B,
                          int T, int H, int D) {
  const std::int64_t rows = static_cast<std::int64_t>(B) * T;
  with_head_dim(D, [&](auto dim) {
    rope_qk_norm_forward_kernel<dim()>
        <<<ceil_div(rows * H * (D / 16), kThreads), kThreads, 0, device.stream()>>>(qkv, rstd, cosine, sine,
                                                                                    rows, T, H);
  });
  LAUNCH_CHECK();
}

void rope_qk_norm_backward(Cuda& device, bf16* dqkv, const bf16* qkv, const float* rstd, const float* cosine,
                           const float* sine, int B, int T, int H, int D) {
  const std::int64_t rows = static_cast<std::int64_t>(B) * T;
  with_head_dim(D, [&](auto dim) {
    rope_qk_norm_backward_kernel<dim()>
        <<<ceil_div(rows * H * (D / 16), kThreads), kThreads, 0, device.stream()>>>(dqkv, qkv, rstd, cosine,
                                                                                    sine, rows, T, H);
  });
  LAUNCH_CHECK();
}

}  // namespace spillway
