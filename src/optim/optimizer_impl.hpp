// Definitions of Optimizer. Included only where it is instantiated for a device (optimizer_<device>.cpp).
#pragma once

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "optim/optimizer.hpp"

namespace spillway {
namespace optimizer_detail {

inline constexpr double kEpsilon = 1e-10;  // AdamW
// The width for which the embeddings' learning rates were tuned; they fall with its square root.
inline constexpr double kReferenceWidth = 768.0;

inline void require_not_negative(const char* key, double value) {
  if (!(value >= 0 && std::isfinite(value)))
    fail(ExitCode::usage, "{} = {}: must be a number that is not negative", key, value);
}

inline void require_decay(const char* key, double value) {
  if (!(value >= 0 && value < 1))
    fail(ExitCode::usage, "{} = {}: must be at least 0 and below 1", key, value);
}

inline void check(const OptimConfig& config) {
  require_not_negative("optim.muon_lr", config.muon_lr);
  require_not_negative("optim.embedding_lr", config.embedding_lr);
  require_not_negative("optim.unembedding_lr", config.unembedding_lr);
  require_not_negative("optim.lambda_r_lr", config.lambda_r_lr);
  require_not_negative("optim.lambda_0_lr", config.lambda_0_lr);
  require_not_negative("optim.weight_decay", config.weight_decay);
  require_decay("optim.muon_momentum", config.muon_momentum);
  require_decay("optim.muon_beta2", config.muon_beta2);
  require_decay("optim.adam_beta1", config.adam_beta1);
  require_decay("optim.adam_beta2", config.adam_beta2);
}

inline double adamw_learning_rate(const OptimConfig& config, ParameterGroup group, int width) {
  const double by_width = 1.0 / std::sqrt(width / kReferenceWidth);
  switch (group) {
    case ParameterGroup::wte:
      return config.embedding_lr * by_width;
    case ParameterGroup::lm_head:
      return config.unembedding_lr * by_width;
    case ParameterGroup::lambda_r:
      return config.lambda_r_lr;
    case ParameterGroup::lambda_0:
      return config.lambda_0_lr;
    case ParameterGroup::muon:
      break;
  }
  fail(ExitCode::internal, "the block matrices have no AdamW learning rate");
}

// Elements of one matrix's variance: the reduced axis is the shorter one, columns where the two are equal.
inline std::int64_t variance_count(const MatrixBatch& batch) { return std::max(batch.rows, batch.cols); }
inline std::vector<std::int64_t> variance_shape(const MatrixBatch& batch) {
  if (batch.rows >= batch.cols) return {batch.rows, 1};
  return {1, batch.cols};
}

}  // namespace optimizer_detail

template <class Dev>
Optimizer<Dev>::Optimizer(Dev& device, const ParameterLayout& layout, const OptimConfig& config,
                          std::int64_t steps, RankShare share)
    : device_(device),
      schedule_(config, steps, layout.layers),
      config_(config),
      state_arena_(device, "optimizer state"),
      workspace_arena_(device, "optimizer workspace") {
  optimizer_detail::check(config);
  for (const OwnedPart& part : divide_parameters(layout, share.ranks))
    if (part.owner == share.rank) own_.push_back(part);
  for (const Parameter& parameter : layout.parameters) {
    if (parameter.group == ParameterGroup::muon) continue;
    const OwnedPart part = own_part(parameter.offset, parameter.offset + parameter.count);
    adamw_.push_back({part.begin, part.end - part.begin,
                      optimizer_detail::adamw_learning_rate(config, parameter.group, layout.width)});
  }
  for (const MatrixBatch& batch : layout.batches) {
    const std::int64_t matrix = static_cast<std::int64_t>(batch.rows) * batch.cols;
    const OwnedPart part = own_part(batch.offset, batch.offset + batch.count * matrix);
    const auto count = static_cast<int>((part.end - part.begin) / matrix);
    muon_.push_back({{batch.name, part.begin, count, batch.rows, batch.cols}});
  }
  allocate();
  name_state(layout);
  reset();
}

// This rank's part of the elements [begin, end), which belong to one parameter or batch; empty if there is none.
template <class Dev>
OwnedPart Optimizer<Dev>::own_part(std::int64_t begin, std::int64_t end) const {
  for (const OwnedPart& part : own_)
    if (part.begin >= begin && part.end <= end) return part;
  return {begin, begin, 0};
}

template <class Dev>
void Optimizer<Dev>::allocate() {
  for (AdamwPart& part : adamw_) {
    state_arena_.reserve(part.m, part.count);
    state_arena_.reserve(part.v, part.count);
  }
  std::int64_t workspace = 0;
  for (MuonPart& part : muon_) {
    const MatrixBatch& batch = part.batch;
    state_arena_.reserve(part.momentum, static_cast<std::int64_t>(batch.count) * batch.rows * batch.cols);
    state_arena_.reserve(part.variance, batch.count * optimizer_detail::variance_count(batch));
    workspace = std::max(workspace, muon_workspace(batch.count, batch.rows, batch.cols));
  }
  state_arena_.allocate();
  workspace_arena_.reserve(workspace_, workspace);
  workspace_arena_.allocate();
}

template <class Dev>
void Optimizer<Dev>::name_state(const ParameterLayout& layout) {
  std::size_t next = 0;
  for (const Parameter& parameter : layout.parameters) {
    if (parameter.group == ParameterGroup::muon) continue;
    const AdamwPart& part = adamw_[next++];
    const std::int64_t first = part.count > 0 ? part.offset - parameter.offset : 0;
    state_.push_back({"optimizer/adamw/m/" + parameter.name, parameter.shape, part.m, part.count, first});
    state_.push_back({"optimizer/adamw/v/" + parameter.name, parameter.shape, part.v, part.count, first});
  }
  for (std::size_t i = 0; i < muon_.size(); ++i) {
    const MatrixBatch &all = layout.batches[i], &mine = muon_[i].batch;
    const std::int64_t matrix = static_cast<std::int64_t>(all.rows) * all.cols;
    const std::int64_t variance = optimizer_detail::variance_count(all);
    for (const Parameter& parameter : layout.parameters) {
      if (parameter.offset < all.offset || parameter.offset >= all.offset + all.count * matrix) continue;
      const std::int64_t index = (parameter.offset - mine.offset) / matrix;
      const bool here = parameter.offset >= mine.offset && index < mine.count;
      state_.push_back({"optimizer/muon/momentum/" + parameter.name, parameter.shape,
                        here ? muon_[i].momentum + index * matrix : nullptr, here ? matrix : 0});
      state_.push_back({"optimizer/muon/variance/" + parameter.name, optimizer_detail::variance_shape(all),
                        here ? muon_[i].variance + index * variance : nullptr, here ? variance : 0});
    }
  }
}

template <class Dev>
void Optimizer<Dev>::reset() {
  for (const NamedTensor& tensor : state_)
    if (tensor.count > 0)
      device_.set_zero(tensor.data, static_cast<std::size_t>(tensor.count) * sizeof(float));
  updates_ = 0;
}

template <class Dev>
void Optimizer<Dev>::sum_own_squares(float* gate_total, const float* gradients) {
  if (own_.empty()) device_.set_zero(gate_total, sizeof(float));
  for (const OwnedPart& part : own_)
    sum_of_squares(device_, gate_total, gradients + part.begin, part.end - part.begin,
                   &part != &own_.front());
}

template <class Dev>
void Optimizer<Dev>::queue_step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                                const float* gate_total) {
  const double factor = schedule_.learning_rate_factor(global_step);
  step_adamw(params, compute_copy, gradients, factor, gate_total);
  step_muon(params, compute_copy, gradients, global_step, factor, gate_total);
}

template <class Dev>
StepResult Optimizer<Dev>::finish_step(float gate_total) {
  StepResult result;
  result.applied = std::isfinite(gate_total);
  result.gradient_norm = std::sqrt(gate_total);
  if (result.applied) ++updates_;
  return result;
}

template <class Dev>
StepResult Optimizer<Dev>::step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                                const float* gate_total) {
  queue_step(params, compute_copy, gradients, global_step, gate_total);
  float total = 0;
  device_.copy_to_host(&total, gate_total, sizeof total);
  return finish_step(total);
}

template <class Dev>
void Optimizer<Dev>::step_adamw(float* params, act* compute_copy, const float* gradients, double factor,
                                const float* gate_total) {
  const auto t = static_cast<double>(updates_ + 1);
  AdamwStep step{};
  step.beta1 = static_cast<float>(config_.adam_beta1);
  step.beta2 = static_cast<float>(config_.adam_beta2);
  step.epsilon = static_cast<float>(optimizer_detail::kEpsilon);
  step.bias_correction1 = static_cast<float>(1.0 - std::pow(config_.adam_beta1, t));
  step.bias_correction2 = static_cast<float>(1.0 - std::pow(config_.adam_beta2, t));
  for (const AdamwPart& part : adamw_) {
    if (part.count == 0) continue;
    step.learning_rate = static_cast<float>(part.learning_rate * factor);
    adamw_update(device_, params + part.offset,
                 compute_copy == nullptr ? nullptr : compute_copy + part.offset, part.m, part.v,
                 gradients + part.offset, step, gate_total, part.count);
  }
}

template <class Dev>
void Optimizer<Dev>::step_muon(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                               double factor, const float* gate_total) {
  MuonStep step{};
  step.learning_rate = static_cast<float>(config_.muon_lr * factor);
  step.momentum = static_cast<float>(schedule_.muon_momentum(global_step));
  step.beta2 = static_cast<float>(config_.muon_beta2);
  step.weight_decay = static_cast<float>(schedule_.weight_decay(global_step));
  for (const MuonPart& part : muon_) {
    const MatrixBatch& batch = part.batch;
    if (batch.count == 0) continue;
    muon_update(device_, params + batch.offset,
                compute_copy == nullptr ? nullptr : compute_copy + batch.offset, part.momentum, part.variance,
                gradients + batch.offset, workspace_, step, gate_total, batch.count, batch.rows, batch.cols);
  }
}

}  // namespace spillway
