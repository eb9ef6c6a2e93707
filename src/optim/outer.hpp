// The outer step of local training (DiLoCo): how the sites' results of a round become the next common model.
// Pure functions over host memory, elementwise and without contraction to fused multiply-adds: every member that has
// the same inputs gets the same bits. Spans of one call have equal lengths; any segmentation gives the same result.
// Training waits for these: long vectors are divided among the host's threads.
#pragma once

#include <span>

namespace spillway {

struct OuterSettings {
  float learning_rate = 1.0f;  // η
  float momentum = 0.0f;       // μ
};

// What a site hands in: delta = base − local. `delta` may be either input.
void outer_delta(std::span<float> delta, std::span<const float> base, std::span<const float> local);

// Nesterov: v ← μ·v + Δ ;  next = base − η·(μ·v + Δ), with the members' weighted mean Δ of their deltas.
// `next` may be `base` or `mean_delta`.
void outer_step(std::span<float> next, std::span<float> velocity, std::span<const float> base,
                std::span<const float> mean_delta, const OuterSettings& settings);

// The plain average of the last rounds: next = base − Δ ;  v ← 0, as this round has no part in any momentum.
void outer_average(std::span<float> next, std::span<float> velocity, std::span<const float> base,
                   std::span<const float> mean_delta);

void outer_copy(std::span<float> to, std::span<const float> from);
void outer_clear(std::span<float> values);

}  // namespace spillway
