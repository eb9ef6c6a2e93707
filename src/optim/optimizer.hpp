// AdamW for embeddings and learned scalars, Muon for all matrices of the blocks, over the flat parameter vector.
// Formulas: adamw_update and muon_update in kernels/ops.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "core/arena.hpp"
#include "core/config.hpp"
#include "core/layout.hpp"
#include "kernels/ops.hpp"
#include "optim/division.hpp"
#include "optim/schedule.hpp"

namespace spillway {

struct StepResult {
  bool applied = false;     // false: the gradient norm was not finite and nothing was changed
  float gradient_norm = 0;  // √(gate total), the Euclidean norm of all gradients
};

// Which of a site's ranks an optimizer works for: it updates the parts of divide_parameters(layout, ranks) that `rank` owns.
struct RankShare {
  int rank = 0, ranks = 1;
};

template <class Dev>
class Optimizer {
 public:
  using act = typename Dev::Activation;

  // Allocates the state of the share and sets it to zero. steps: N, of the whole run.
  // Throws Error(usage) for hyper-parameters that cannot be, and where memory is short.
  Optimizer(Dev& device, const ParameterLayout& layout, const OptimConfig& config, std::int64_t steps,
            RankShare share = {});
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Queues one update of the share's parameters with the schedules' values at global_step.
  // params: fp32 master ; compute_copy: its copy for the GEMMs, null where there is none ; gradients: may be overwritten ;
  // gate_total: Σ gradients² over all ranks. All on the device, layout order. Not finite: nothing is changed.
  // Call finish_step() before the next one.
  void queue_step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                  const float* gate_total);
  // Takes in what *gate_total was, which the host reads back with other results of the step.
  StepResult finish_step(float gate_total);
  // Both, waiting for the device in between.
  StepResult step(float* params, act* compute_copy, float* gradients, std::int64_t global_step,
                  const float* gate_total);
  // Back to the state after construction.
  void reset();
  // *gate_total = Σ gradients² over the share's elements (op sum_of_squares).
  void sum_own_squares(float* gate_total, const float* gradients);

  // Updates applied to this state, the t of AdamW's bias correction 1 − βᵗ. Part of the state: a checkpoint keeps it.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  // The state of all ranks together, for checkpoints, with this rank's parts as arrays on the device; the same tensors in
  // the same order on every rank. optimizer/adamw/m|v/<parameter> with the parameter's shape,
  // optimizer/muon/momentum/<parameter> likewise, optimizer/muon/variance/<parameter> as (rows, 1) or (1, cols).
  const std::vector<NamedTensor>& state() const { return state_; }

  std::vector<MemoryUse> memory_use() const { return {state_arena_.use(), workspace_arena_.use()}; }

 private:
  // This rank's part of one parameter under AdamW; count 0: none.
  struct AdamwPart {
    std::int64_t offset, count;
    double learning_rate;
    float *m = nullptr, *v = nullptr;
  };
  // This rank's matrices of one batch under Muon; count 0: none.
  struct MuonPart {
    MatrixBatch batch;
    float *momentum = nullptr, *variance = nullptr;
  };

  OwnedPart own_part(std::int64_t begin, std::int64_t end) const;
  void allocate();
  void name_state(const ParameterLayout& layout);
  void step_adamw(float* params, act* compute_copy, const float* gradients, double factor,
                  const float* gate_total);
  void step_muon(float* params, act* compute_copy, float* gradients, std::int64_t global_step, double factor,
                 const float* gate_total);

  Dev& device_;
  Schedule schedule_;
  OptimConfig config_;
  std::int64_t updates_ = 0;
  std::vector<OwnedPart> own_;  // what this rank updates
  Arena<Dev> state_arena_, workspace_arena_;
  std::vector<AdamwPart> adamw_;
  std::vector<MuonPart> muon_;
  float* workspace_ = nullptr;
  std::vector<NamedTensor> state_;
};

}  // namespace spillway
