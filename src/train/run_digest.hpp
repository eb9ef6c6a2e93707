// What all members of a run must have in common.
#pragma once

#include <string>

#include <fmt/format.h>

#include "core/config.hpp"
#include "core/hash.hpp"
#include "model/spec.hpp"

namespace spillway {

// Over the model's sizes, the seed, the data's order, the schedules and the optimizers' settings. Sites may differ in
// everything else: device, ranks, micro-batch, paths, signals.
inline std::string run_digest(const Config& config, const GptSpec& spec) {
  const TrainConfig& train = config.train;
  const OptimConfig& optim = config.optim;
  return xxh3_hex({bytes_of(
      fmt::format("layers {} width {} heads {} vocab {} sequence {} scalars {} steps {} tokens_per_step {} "
                  "seed {} muon_lr {} "
                  "embedding_lr {} unembedding_lr {} lambda_r_lr {} lambda_0_lr {} weight_decay {} cooldown "
                  "{} momentum_warmup {} "
                  "outer_lr {} outer_momentum {}",
                  spec.layers, spec.width, spec.heads, spec.vocab, spec.sequence, spec.scalars, train.steps,
                  train.tokens_per_step, train.seed, optim.muon_lr, optim.embedding_lr, optim.unembedding_lr,
                  optim.lambda_r_lr, optim.lambda_0_lr, optim.weight_decay, optim.cooldown,
                  optim.momentum_warmup, config.federation.outer_lr, config.federation.outer_momentum))});
}

}  // namespace spillway
