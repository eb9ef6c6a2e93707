// Definitions of Optimizer. Included only where it is instantiated for a device (optimizer_<device>.cpp).
#pragma once

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "optim/optimizer.hpp"

namespace spillway {
namespace optimizer_detail {

inline constexpr double kBeta1 = 0.8, kBeta2 = 0.95, kEpsilon = 1e-10;  // AdamW
inline constexpr double kVarianceBeta = 0.95;                           // NorMuon
// The width for which the embeddings' learning rates were tuned; they fall with its square root.
inline constexpr double kReferenceWidth = 768.0;

inline void require_not_negative(const char* key, double value) {
  if (!(value >= 0 && std::isfinite(value)))
    fail(ExitCode::usage, "{} = {}: must be a number that is not negative", key, value);
}

inline void check(const OptimConfig& config) {
  require_not_negative("optim.muon_lr", config.muon_lr);
  require_not_negative("optim.embedding_lr", config.embedding_lr);
  require_not_negative("optim.unembedding_lr", config.unembedding_lr);
  require_not_negative("optim.lambda_r_lr", config.lambda_r_lr);
  require_not_negative("optim.lambda_0_lr", config.lambda_0_lr);
  require_not_negative("optim.weight_decay", config.weight_decay);
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
                          std::int64_t steps)
    : device_(device),
      schedule_(config, steps, layout.layers),
      muon_learning_rate_(config.muon_lr),
      state_arena_(device, "optimizer state"),
      workspace_arena_(device, "optimizer workspace") {
  optimizer_detail::check(config);
  for (const Parameter& parameter : layout.parameters)
    if (parameter.group != ParameterGroup::muon)
      adamw_.push_back({parameter.offset, parameter.count,
                        optimizer_detail::adamw_learning_rate(config, parameter.group, layout.width)});
  for (const MatrixBatch& batch : layout.batches) muon_.push_back({batch});
  allocate();
  name_state(layout);
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
  for (const AdamwPart& part : adamw_)
    for (const Parameter& parameter : layout.parameters)
      if (parameter.offset == part.offset) {
        state_.push_back({"optimizer/adamw/m/" + parameter.name, parameter.shape, part.m, part.count});
        state_.push_back({"optimizer/adamw/v/" + parameter.name, parameter.shape, part.v, part.count});
      }
  for (const MuonPart& part : muon_) {
    const MatrixBatch& batch = part.batch;
    const std::int64_t matrix = static_cast<std::int64_t>(batch.rows) * batch.cols;
    const std::int64_t variance = optimizer_detail::variance_count(batch);
    for (const Parameter& parameter : layout.parameters) {
      const std::int64_t index = (parameter.offset - batch.offset) / matrix;
      if (parameter.offset < batch.offset || index >= batch.count) continue;
      state_.push_back({"optimizer/muon/momentum/" + parameter.name, parameter.shape,
                        part.momentum + index * matrix, matrix});
      state_.push_back({"optimizer/muon/variance/" + parameter.name, optimizer_detail::variance_shape(batch),
                        part.variance + index * variance, variance});
    }
  }
  for (const NamedTensor& tensor : state_)
    device_.set_zero(tensor.data, static_cast<std::size_t>(tensor.count) * sizeof(float));
}

template <class Dev>
StepResult Optimizer<Dev>::step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                                const float* gate_total) {
  const double factor = schedule_.learning_rate_factor(global_step);
  step_adamw(params, compute_copy, gradients, factor, gate_total);
  step_muon(params, compute_copy, gradients, global_step, factor, gate_total);
  float total = 0;
  device_.copy_to_host(&total, gate_total, sizeof(total));
  device_.synchronize();
  StepResult result;
  result.applied = std::isfinite(total);
  result.gradient_norm = std::sqrt(total);
  if (result.applied) ++updates_;
  return result;
}

template <class Dev>
void Optimizer<Dev>::step_adamw(float* params, act* compute_copy, const float* gradients, double factor,
                                const float* gate_total) {
  using namespace optimizer_detail;
  const auto t = static_cast<double>(updates_ + 1);
  AdamwStep step{};
  step.beta1 = static_cast<float>(kBeta1);
  step.beta2 = static_cast<float>(kBeta2);
  step.epsilon = static_cast<float>(kEpsilon);
  step.bias_correction1 = static_cast<float>(1.0 - std::pow(kBeta1, t));
  step.bias_correction2 = static_cast<float>(1.0 - std::pow(kBeta2, t));
  for (const AdamwPart& part : adamw_) {
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
  step.learning_rate = static_cast<float>(muon_learning_rate_ * factor);
  step.momentum = static_cast<float>(schedule_.muon_momentum(global_step));
  step.beta2 = static_cast<float>(optimizer_detail::kVarianceBeta);
  step.weight_decay = static_cast<float>(schedule_.weight_decay(global_step));
  for (const MuonPart& part : muon_) {
    const MatrixBatch& batch = part.batch;
    muon_update(device_, params + batch.offset,
                compute_copy == nullptr ? nullptr : compute_copy + batch.offset, part.momentum, part.variance,
                gradients + batch.offset, workspace_, step, gate_total, batch.count, batch.rows, batch.cols);
  }
}

}  // namespace spillway
