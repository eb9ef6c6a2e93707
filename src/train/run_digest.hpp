// What all members of a run must have in common.
#pragma once

#include <string>

#include <fmt/format.h>

#include "core/config.hpp"
#include "core/hash.hpp"
#include "model/spec.hpp"

namespace spillway {

// What is newer than the first such digests counts where it differs from its default: runs begun before keep theirs.
inline std::string newer_settings(const Config& config) {
  const OptimConfig &optim = config.optim, usual;
  std::string text;
  if (optim.muon_momentum != usual.muon_momentum)
    text += fmt::format(" muon_momentum {}", optim.muon_momentum);
  if (optim.muon_beta2 != usual.muon_beta2) text += fmt::format(" muon_beta2 {}", optim.muon_beta2);
  if (optim.adam_beta1 != usual.adam_beta1) text += fmt::format(" adam_beta1 {}", optim.adam_beta1);
  if (optim.adam_beta2 != usual.adam_beta2) text += fmt::format(" adam_beta2 {}", optim.adam_beta2);
  if (config.federation.average_optimizer) text += " average_optimizer";
  return text;
}

// Over the model's sizes, the seed, the data's order, the schedules and the optimizers' settings. Sites may differ in
// everything else: device, ranks, micro-batch, paths, signals.
inline std::string run_digest(const Config& config, const GptSpec& spec) {
  const TrainConfig& train = config.train;
  const OptimConfig& optim = config.optim;
  const std::string text = fmt::format(
      "layers {} width {} heads {} vocab {} sequence {} scalars {} steps {} tokens_per_step {} "
      "seed {} muon_lr {} "
      "embedding_lr {} unembedding_lr {} lambda_r_lr {} lambda_0_lr {} weight_decay {} cooldown "
      "{} momentum_warmup {} "
      "outer_lr {} outer_momentum {}",
      spec.layers, spec.width, spec.heads, spec.vocab, spec.sequence, spec.scalars, train.steps,
      train.tokens_per_step, train.seed, optim.muon_lr, optim.embedding_lr, optim.unembedding_lr,
      optim.lambda_r_lr, optim.lambda_0_lr, optim.weight_decay, optim.cooldown, optim.momentum_warmup,
      config.federation.outer_lr, config.federation.outer_momentum);
  const std::string all = text + newer_settings(config);
  return xxh3_hex({bytes_of(all)});
}

}  // namespace spillway
