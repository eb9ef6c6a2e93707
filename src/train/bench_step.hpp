// Definition of time_step. Included only where it is instantiated (bench_<device>.cpp).
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "core/error.hpp"
#include "core/rng.hpp"
#include "model/gpt.hpp"
#include "model/init.hpp"
#include "optim/optimizer.hpp"
#include "train/bench.hpp"
#include "train/memory_plan.hpp"
#include "train/rehearsal.hpp"
#include "train/stopwatch.hpp"

namespace spillway::bench_detail {

// A trainer without data, ranks and checkpoints.
template <class Dev>
class StepBench {
 public:
  StepBench(Dev& device, const GptSpec& spec, const TrainConfig& config, const OptimConfig& optim,
            int micro_batch)
      : device_(device),
        micro_batch_(micro_batch),
        sequence_(spec.sequence),
        tokens_per_step_(config.tokens_per_step),
        layout_(make_layout(spec)),
        parameters_(device, layout_, true),
        model_(device, spec, micro_batch, Purpose::train),
        optimizer_(device, layout_, optim, config.steps),
        totals_(device, "step totals") {
    totals_.reserve(loss_total_, 1);
    totals_.reserve(gate_total_, 1);
    totals_.allocate();
    tokens_.resize(static_cast<std::size_t>(micro_batch) * static_cast<std::size_t>(sequence_));
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      tokens_[i] = static_cast<std::int32_t>(uniform01(config.seed, 9, i) * static_cast<float>(spec.vocab));
    std::vector<float> initial(static_cast<std::size_t>(layout_.total));
    initialize_parameters(initial, layout_, config.seed);
    rehearse(device_, parameters_, model_, optimizer_, initial, micro_batch);
    parameters_.load(initial);
  }

  // One optimizer step; adds the seconds of its parts to the lists. between, if any, is called before each micro-batch, when
  // the device has finished what came before.
  void step(std::int64_t it, const std::function<void()>& between = {}) {
    const float scale = 1.0f / static_cast<float>(tokens_per_step_);
    Stopwatch<Dev> watch(device_);
    watch.mark();
    const std::int64_t sequences = tokens_per_step_ / sequence_;
    for (std::int64_t done = 0; done < sequences; done += micro_batch_) {
      if (between) {
        device_.synchronize();
        between();
      }
      model_.forward_backward(parameters_.weights(),
                              {tokens_.data(), tokens_.data(), micro_batch_, sequence_},
                              parameters_.gradients(), loss_total_, scale, done > 0);
    }
    forward_backward_s.push_back(watch.lap_s());
    sum_of_squares(device_, gate_total_, parameters_.gradients(), layout_.total, false);
    gradient_norm_s.push_back(watch.lap_s());
    optimizer_.step(parameters_.master(), parameters_.compute_copy(), parameters_.gradients(), it,
                    gate_total_);
    optimizer_s.push_back(watch.lap_s());
  }

  double loss_nats() {
    float total = 0;
    device_.copy_to_host(&total, loss_total_, sizeof total);
    return total / static_cast<double>(tokens_per_step_);
  }

  std::vector<double> forward_backward_s, gradient_norm_s, optimizer_s;

 private:
  Dev& device_;
  int micro_batch_, sequence_;
  std::int64_t tokens_per_step_;
  ParameterLayout layout_;
  Parameters<Dev> parameters_;
  Gpt<Dev> model_;
  Optimizer<Dev> optimizer_;
  Arena<Dev> totals_;
  float *loss_total_ = nullptr, *gate_total_ = nullptr;
  std::vector<std::int32_t> tokens_;
};

inline void check_step(const TrainConfig& config, const GptSpec& spec) {
  if (config.tokens_per_step % spec.sequence != 0)
    fail(ExitCode::usage, "train.tokens-per-step = {}: must be a multiple of model.sequence = {}",
         config.tokens_per_step, spec.sequence);
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace spillway::bench_detail

namespace spillway {

template <class Dev>
StepTiming time_step(Dev& device, const GptSpec& spec, const TrainConfig& config, const OptimConfig& optim,
                     int steps) {
  using namespace bench_detail;
  check_step(config, spec);
  const auto start = std::chrono::steady_clock::now();
  StepTiming timing;
  const MemoryPlan plan = plan_memory(device, spec, make_layout(spec), optim, RankShare{}, config.micro_batch,
                                      static_cast<int>(config.tokens_per_step / spec.sequence), 1);
  timing.micro_batch = plan.micro_batch;
  timing.memory = plan.roles;
  const auto bench = std::make_unique<StepBench<Dev>>(device, spec, config, optim, plan.micro_batch);
  bench->step(0);
  timing.first_step_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  bench->forward_backward_s.clear();
  bench->gradient_norm_s.clear();
  bench->optimizer_s.clear();
  for (int it = 1; it <= steps; ++it) bench->step(it);
  timing.forward_backward_s = median(bench->forward_backward_s);
  timing.gradient_norm_s = median(bench->gradient_norm_s);
  timing.optimizer_s = median(bench->optimizer_s);
  timing.loss_nats = bench->loss_nats();
  return timing;
}

}  // namespace spillway
