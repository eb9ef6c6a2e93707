// What changes over the run, as pure functions of the global optimizer step. See "Optimizers" in the README.
#pragma once

#include <cstdint>

#include "core/config.hpp"

namespace spillway {

// The global step in the middle of a round: after `committed` merged blocks and `own` more of one site, for each of which all
// sites together train `pace`.
inline std::int64_t paced_step(std::int64_t committed, std::int64_t own, double pace) {
  return committed + static_cast<std::int64_t>(pace * static_cast<double>(own));
}

// `it` is the global step: 0 for the first optimizer step of the run. Steps beyond the end are allowed.
class Schedule {
 public:
  // steps: N, of the whole run. layers: L of the model. Throws Error(usage) for values that no run can have.
  Schedule(const OptimConfig& config, std::int64_t steps, int layers);

  // Factor of every learning rate: 1 until N − round(cooldown·N), then linear to 0 at N; never negative.
  double learning_rate_factor(std::int64_t it) const;
  // Muon's μ: from 0.85 (or muon_momentum, where that is less) to muon_momentum, linear over the first momentum_warmup steps.
  double muon_momentum(std::int64_t it) const;
  // Muon's cautious weight decay: weight_decay·(12/L)²·(1 − it/N), never negative.
  double weight_decay(std::int64_t it) const;

 private:
  std::int64_t steps_, cooldown_steps_, momentum_warmup_;
  double momentum_;
  double initial_weight_decay_;
};

}  // namespace spillway
