// AdamW for embeddings and learned scalars, Muon for all matrices of the blocks, over the flat parameter vector.
// Formulas: adamw_update and muon_update in kernels/ops.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "core/arena.hpp"
#include "core/config.hpp"
#include "core/layout.hpp"
#include "kernels/ops.hpp"
#include "optim/schedule.hpp"

namespace spillway {

struct StepResult {
  bool applied = false;     // false: the gradient norm was not finite and nothing was changed
  float gradient_norm = 0;  // √(gate total), the Euclidean norm of all gradients
};

template <class Dev>
class Optimizer {
 public:
  using act = typename Dev::Activation;

  // Allocates the state and sets it to zero. steps: N, of the whole run.
  // Throws Error(usage) for hyper-parameters that cannot be, and where memory is short.
  Optimizer(Dev& device, const ParameterLayout& layout, const OptimConfig& config, std::int64_t steps);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update of all parameters with the schedules' values at global_step.
  // params: fp32 master ; compute_copy: its copy for the GEMMs, null where there is none ; gradients: may be overwritten ;
  // gate_total: Σ gradients² (op sum_of_squares). All on the device, layout order. Not finite: the step is skipped.
  // Waits for the device.
  StepResult step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                  const float* gate_total);

  // Updates applied to this state, the t of AdamW's bias correction 1 − βᵗ. Part of the state: a checkpoint keeps it.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  // The state as arrays on the device, for checkpoints: optimizer/adamw/m|v/<parameter> with the parameter's shape,
  // optimizer/muon/momentum/<parameter> likewise, optimizer/muon/variance/<parameter> as (rows, 1) or (1, cols).
  const std::vector<NamedTensor>& state() const { return state_; }

  std::vector<MemoryUse> memory_use() const { return {state_arena_.use(), workspace_arena_.use()}; }

 private:
  // One parameter under AdamW.
  struct AdamwPart {
    std::int64_t offset, count;
    double learning_rate;
    float *m = nullptr, *v = nullptr;
  };
  // One batch of matrices under Muon.
  struct MuonPart {
    MatrixBatch batch;
    float *momentum = nullptr, *variance = nullptr;
  };

  void allocate();
  void name_state(const ParameterLayout& layout);
  void step_adamw(float* params, act* compute_copy, const float* gradients, double factor,
                  const float* gate_total);
  void step_muon(float* params, act* compute_copy, float* gradients, std::int64_t global_step, double factor,
                 const float* gate_total);

  Dev& device_;
  Schedule schedule_;
  double muon_learning_rate_;
  std::int64_t updates_ = 0;
  Arena<Dev> state_arena_, workspace_arena_;
  std::vector<AdamwPart> adamw_;
  std::vector<MuonPart> muon_;
  float* workspace_ = nullptr;
  std::vector<NamedTensor> state_;
};

}  // namespace spillway
