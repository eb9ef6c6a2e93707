// A trial step before the first one, so that a device chooses its plans (GEMM algorithms, attention) by what training will
// look like.
#pragma once

#include <cstdint>
#include <vector>

#include "core/arena.hpp"
#include "core/rng.hpp"
#include "model/gpt.hpp"
#include "optim/optimizer.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "kernels/cuda/device.hpp"
#endif

namespace spillway {

// The CPU has nothing to choose.
inline void set_rehearsing(Cpu&, bool) {}
#ifdef SPILLWAY_HAVE_CUDA
inline void set_rehearsing(Cuda& device, bool on) { device.rehearsing = on; }
#endif

// One forward and backward pass on random tokens with noisy weights, and an update: initial projections and so most
// gradients are zero, and products of zeros are faster than others. Leaves the parameters changed: load() them afterwards.
// The optimizer is as new.
template <class Dev>
void rehearse(Dev& device, Parameters<Dev>& parameters, Gpt<Dev>& model, Optimizer<Dev>& optimizer,
              std::vector<float> weights, int micro_batch) {
  std::vector<float> noise(1 << 16);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = 0.05f * (uniform01(3, 0, i) - 0.5f);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] += noise[i % noise.size()];
  parameters.load(weights);

  const GptSpec& spec = model.spec();
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(micro_batch) *
                                   static_cast<std::size_t>(spec.sequence));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(uniform01(4, 0, i) * static_cast<float>(spec.vocab));
  Arena<Dev> arena(device, "rehearsal");
  float *loss_total = nullptr, *gate_total = nullptr;
  arena.reserve(loss_total, 1);
  arena.reserve(gate_total, 1);
  arena.allocate();
  device.set_zero(gate_total, sizeof(float));
  set_rehearsing(device, true);
  model.forward_backward(parameters.weights(), {tokens.data(), tokens.data(), micro_batch, spec.sequence},
                         parameters.gradients(), loss_total, 1.0f, false);
  optimizer.queue_step(parameters.master(), parameters.compute_copy(), parameters.gradients(), 0, gate_total);
  set_rehearsing(device, false);
  optimizer.reset();
  device.synchronize();
}

}  // namespace spillway
