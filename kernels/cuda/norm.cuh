// RMS norm fused with the mix of the residual stream, for one warp that holds a row in registers: what the bf16 norms and
// those that also write FP8 share.
#pragma once

#include "kernels/cuda/rows.cuh"
#include "kernels/ops.hpp"

namespace spillway {

// x = λr·x + λ0·x0 with kMix, in place, and the row into `kept`; returns rstd = 1/√(mean(x²) + ε). Vectors of the row lie
// from `base` on.
template <int kVectors, bool kMix>
__device__ __forceinline__ float mix_row(uint4 (&kept)[kVectors], uint4* x, const uint4* x0, float mix_r,
                                         float mix_0, std::int64_t base, int C) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = column_of_lane(i);
    if (column >= C / kVector) break;
    kept[i] = x[base + column];
    float values[kVector];
    unpack(values, kept[i]);
    if constexpr (kMix) {
      float first[kVector];
      unpack(first, x0[base + column]);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] = mix_r * values[j] + mix_0 * first[j];
      kept[i] = pack(values);
      x[base + column] = kept[i];
      unpack(values,
             kept[i]);  // the norm is that of the rounded stream: backward recovers it from h and rstd
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) squares += values[j] * values[j];
  }
  return rsqrtf(lane_sum(squares) / static_cast<float>(C) + kNormEpsilon);
}

// <g, x0> and <g, h> of what a lane has seen.
struct LambdaDots {
  float first, mixed;
};

// One vector of the backward pass: g = dx + r·(dh − h·mean(<dh, h>)) is the gradient behind the mix; dx0 += λ0·g, dx = λr·g.
// `g` leaves as dx does, before rounding.
template <bool kMix>
__device__ __forceinline__ void norm_backward(float (&g)[kVector], uint4* dx, uint4* dx0, const uint4* x0,
                                              const uint4& dh, const uint4& h, float mean, float r,
                                              float mix_r, float mix_0, std::int64_t vector,
                                              LambdaDots& dots) {
  float gradient[kVector], normed[kVector];
  unpack(g, dx[vector]);
  unpack(gradient, dh);
  unpack(normed, h);
#pragma unroll
  for (int j = 0; j < kVector; ++j) g[j] += r * (gradient[j] - normed[j] * mean);
  if constexpr (kMix) {
    float first[kVector], dfirst[kVector];
    unpack(first, x0[vector]);
    unpack(dfirst, dx0[vector]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      dots.first += g[j] * first[j];
      dots.mixed += g[j] * normed[j];
      dfirst[j] += mix_0 * g[j];
      g[j] *= mix_r;
    }
    dx0[vector] = pack(dfirst);
  }
  dx[vector] = pack(g);
}

// The end of every norm's backward pass with learned scalars:
// dλ0 += Σ<g, x0> ;  dλr += (Σ<g, h/rstd> − λ0·Σ<g, x0>)/λr, in a fixed order.
// partial: (2, blocks), <g, x0> and then <g, h/rstd> of each block's rows. All pointers are on the device.
void add_lambda_gradients(Cuda& device, float* dlambda_r, float* dlambda_0, const float* partial, int blocks,
                          const float* lambda_r, const float* lambda_0);

}  // namespace spillway
