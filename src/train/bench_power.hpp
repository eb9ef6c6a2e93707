// Definition of time_power. Included only where it is instantiated (bench_<device>.cpp).
#pragma once

#include <memory>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "train/bench_step.hpp"
#include "train/pacer.hpp"

namespace spillway::bench_detail {

// Steps under one cap, and the energy they take.
template <class Dev>
class CappedSteps {
 public:
  CappedSteps(StepBench<Dev>& steps, const PowerBench& bench, double tokens_per_step)
      : steps_(steps), bench_(bench), tokens_per_step_(tokens_per_step) {}

  PowerPoint measure(double cap_w) {
    PowerBalance balance(0, 0);
    Pacer pacer([&](bool pausing) { book(balance, !pausing); });
    PowerPoint point;
    point.cap_w = cap_w;
    point.by = cap_w == 0 ? "none" : bench_.limits != nullptr ? "limit" : "pauses";
    if (bench_.limits != nullptr && cap_w > 0) bench_.limits->set_w(cap_w);
    run(balance, pacer, cap_w, bench_.seconds / 2);
    joules_ = seconds_ = 0;
    const double steps = run(balance, pacer, cap_w, bench_.seconds);
    point.tokens_per_s = steps * tokens_per_step_ / seconds_;
    point.mean_w = joules_ / seconds_;
    return point;
  }

 private:
  // Whole steps until so many seconds have passed; how many.
  double run(PowerBalance& balance, Pacer& pacer, double cap_w, double seconds) {
    const double until_s = monotonic_s() + seconds;
    double steps = 0;
    since_s_ = monotonic_s();
    bench_.meter->sample(Phase::solo, 1e-9);  // what was used before does not count
    pacer.begin_work();                       // without an end: what lies between two steps is paid for too
    do {
      pacer.set_ratio(cap_w > 0 ? balance.pause_ratio(cap_w) : 0);
      if (!pacer.paces()) pacer.begin_work();
      steps_.step(++it_, pacer.paces() ? std::function<void()>([&] { pacer.pause(); }) : nullptr);
      book(balance, false);
      ++steps;
    } while (monotonic_s() < until_s);
    return steps;
  }

  // The energy since the last call, used while working or while pausing.
  void book(PowerBalance& balance, bool pausing) {
    const double now_s = monotonic_s(), seconds = now_s - since_s_;
    if (seconds <= 0) return;
    since_s_ = now_s;
    const EnergySample sample = bench_.meter->sample(pausing ? Phase::idle : Phase::solo, seconds);
    double power_w = 0;
    for (std::size_t i = 0; i < kComponents; ++i)
      if (!bench_.gpu_only || i == static_cast<std::size_t>(Component::gpu)) power_w += sample.power_w[i];
    balance.add(pausing, power_w * seconds, seconds);
    joules_ += power_w * seconds;
    seconds_ += seconds;
  }

  StepBench<Dev>& steps_;
  const PowerBench& bench_;
  double tokens_per_step_;
  std::int64_t it_ = 0;
  double since_s_ = 0, joules_ = 0, seconds_ = 0;
};

}  // namespace spillway::bench_detail

namespace spillway {

template <class Dev>
std::vector<PowerPoint> time_power(Dev& device, const GptSpec& spec, const TrainConfig& config,
                                   const OptimConfig& optim, const PowerBench& bench) {
  using namespace bench_detail;
  check_step(config, spec);
  const MemoryPlan plan = plan_memory(device, spec, make_layout(spec), optim, RankShare{}, config.micro_batch,
                                      static_cast<int>(config.tokens_per_step / spec.sequence), 1);
  const auto steps = std::make_unique<StepBench<Dev>>(device, spec, config, optim, plan.micro_batch);
  steps->step(0);
  CappedSteps<Dev> capped(*steps, bench, static_cast<double>(config.tokens_per_step));
  std::vector<PowerPoint> points = {capped.measure(0)};
  for (const double cap_w : bench.caps_w) points.push_back(capped.measure(cap_w));
  return points;
}

}  // namespace spillway
