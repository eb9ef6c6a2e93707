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
  // So many vectors of both rows under way at once, in up to 64 registers.
  constexpr int kBatch = kVectors < 8 ? kVectors : 8;
  const int count = C / kVector;
  float squares = 0;
#pragma unroll
  for (int begin = 0; begin < kVectors; begin += kBatch) {
    uint4 first[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      kept[begin + i] = row_vector<kVectors>(x + base, begin + i, count);
      if constexpr (kMix) first[i] = row_vector<kVectors>(x0 + base, begin + i, count);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      uint4& vector = kept[begin + i];
      if constexpr (kMix) {
        float values[kVector], first_values[kVector];
        unpack(values, vector);
        unpack(first_values, first[i]);
#pragma unroll
        for (int j = 0; j < kVector; ++j) values[j] = mix_r * values[j] + mix_0 * first_values[j];
        vector = pack(values);
        if (inside_row<kVectors>(begin + i, count)) x[base + column_of_lane(begin + i)] = vector;
      }
      squares += dot_product(vector, vector);  // of the rounded stream: backward recovers it from h and rstd
    }
  }
  return rsqrtf(lane_sum(squares) / static_cast<float>(C) + kNormEpsilon);
}

// <g, x0> and <g, h> of what a lane has seen.
struct LambdaDots {
  float first, mixed;
};

// How many vectors of dx, dx0 and x0 a lane loads at a time, and blocks of 8 warps per multiprocessor: beside a row's dh and h
// in registers, without spills (five vectors of all in 128 registers spilled 30). Above 8 vectors one block fits.
template <int kVectors>
inline constexpr int kBackwardBatch = kVectors <= 6 ? (kVectors < 3 ? kVectors : 3) : kVectors / 4;
template <int kVectors, bool kMix>
inline constexpr int kBackwardBlocks = kVectors > 8           ? 1
                                       : kMix || kVectors > 5 ? 2
                                                              : 3;

// The backward pass of a row: g = dx + r·(dh − h·mean(<dh, h>)) is the gradient behind the mix; dx0 += λ0·g, dx = λr·g.
// Pointers are to the row. All loads of a batch leave before its stores, which hold up every load behind them, and those of
// the first with dh and h, before the sum: 19 of 512 bytes under way per warp at C = 1,280, 152 KiB per
// multiprocessor, where it was two, then three, of each of 24 warps.
// finish(i, g): with λr·g of each vector before rounding.
template <int kVectors, bool kMix, class Finish>
__device__ __forceinline__ void norm_backward(uint4* dx, uint4* dx0, const uint4* dh, const uint4* h,
                                              const uint4* x0, float r, float mix_r, float mix_0, int C,
                                              LambdaDots& dots, const Finish& finish) {
  constexpr int kBatch = kBackwardBatch<kVectors>;
  const int count = C / kVector;
  uint4 kept_dh[kVectors], kept_h[kVectors], old_dx[kBatch], old_dx0[kBatch], first[kBatch];
  const auto load_batch = [&](int begin) {
#pragma unroll
    for (int i = 0; i < kBatch && begin + i < kVectors; ++i) {
      old_dx[i] = row_vector<kVectors>(dx, begin + i, count);
      if constexpr (kMix) {
        first[i] = row_vector<kVectors>(x0, begin + i, count);
        old_dx0[i] = row_vector<kVectors>(dx0, begin + i, count);
      }
    }
  };
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    kept_dh[i] = row_vector<kVectors>(dh, i, count);
    kept_h[i] = row_vector<kVectors>(h, i, count);
  }
  load_batch(0);
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) dot += dot_product(kept_dh[i], kept_h[i]);
  const float mean = lane_sum(dot) / static_cast<float>(C);
#pragma unroll
  for (int begin = 0; begin < kVectors; begin += kBatch) {
    if (begin > 0) load_batch(begin);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= kVectors || !inside_row<kVectors>(begin + i, count)) break;
      const int column = column_of_lane(begin + i);
      float g[kVector], gradient[kVector], normed[kVector];
      ptx::forget(kept_dh[begin + i]);  // or their floats stay in registers from the sum on, twice as many
      ptx::forget(kept_h[begin + i]);
      unpack(g, old_dx[i]);
      unpack(gradient, kept_dh[begin + i]);
      unpack(normed, kept_h[begin + i]);
#pragma unroll
      for (int j = 0; j < kVector; ++j) g[j] += r * (gradient[j] - normed[j] * mean);
      if constexpr (kMix) {
        float first_values[kVector], dfirst[kVector];
        unpack(first_values, first[i]);
        unpack(dfirst, old_dx0[i]);
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          dots.first += g[j] * first_values[j];
          dots.mixed += g[j] * normed[j];
          dfirst[j] += mix_0 * g[j];
          g[j] *= mix_r;
        }
        dx0[column] = pack(dfirst);
      }
      dx[column] = pack(g);
      finish(begin + i, g);
    }
  }
}

// The end of every norm's backward pass with learned scalars:
// dλ0 += Σ<g, x0> ;  dλr += (Σ<g, h/rstd> − λ0·Σ<g, x0>)/λr, in a fixed order.
// partial: (2, blocks), <g, x0> and then <g, h/rstd> of each block's rows. All pointers are on the device.
void add_lambda_gradients(Cuda& device, float* dlambda_r, float* dlambda_0, const float* partial, int blocks,
                          const float* lambda_r, const float* lambda_0);

}  // namespace spillway
