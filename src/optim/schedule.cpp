#include "optim/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr double kMomentumStart = 0.85;
// The depth at which weight_decay holds as it is; it falls with the square of the depth.
constexpr double kReferenceLayers = 12.0;

}  // namespace

Schedule::Schedule(const OptimConfig& config, std::int64_t steps, int layers)
    : steps_(steps),
      cooldown_steps_(0),
      momentum_warmup_(config.momentum_warmup),
      momentum_(config.muon_momentum),
      initial_weight_decay_(config.weight_decay * std::pow(kReferenceLayers / layers, 2)) {
  SPILLWAY_CHECK(layers >= 1);
  if (steps < 1) fail(ExitCode::usage, "train.steps = {}: must be at least 1", steps);
  if (!(config.cooldown >= 0 && config.cooldown <= 1))
    fail(ExitCode::usage, "optim.cooldown = {}: must be between 0 and 1", config.cooldown);
  if (config.momentum_warmup < 0)
    fail(ExitCode::usage, "optim.momentum_warmup = {}: must not be negative", config.momentum_warmup);
  cooldown_steps_ = std::llround(config.cooldown * static_cast<double>(steps));
}

double Schedule::learning_rate_factor(std::int64_t it) const {
  const std::int64_t left = std::max<std::int64_t>(steps_ - it, 0);
  if (left >= cooldown_steps_) return left > 0 ? 1.0 : 0.0;
  return static_cast<double>(left) / static_cast<double>(cooldown_steps_);
}

double Schedule::muon_momentum(std::int64_t it) const {
  if (it >= momentum_warmup_) return momentum_;
  const double done = static_cast<double>(it) / static_cast<double>(momentum_warmup_);
  return (1 - done) * std::min(kMomentumStart, momentum_) + done * momentum_;
}

double Schedule::weight_decay(std::int64_t it) const {
  const double left = 1.0 - static_cast<double>(it) / static_cast<double>(steps_);
  return initial_weight_decay_ * std::max(left, 0.0);
}

}  // namespace spillway
