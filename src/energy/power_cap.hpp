// Keeping a site's power below a cap: how much it must pause, and limits that GPUs keep by themselves.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "energy/nvml.hpp"

namespace spillway {

// Mean powers while working and while pausing, from what a meter saw. Older energy counts less: with a weight that falls to
// 1/e in kMemory_s.
class PowerBalance {
 public:
  static constexpr double kMemory_s = 60;
  static constexpr double kMostPause = 99;

  // Powers to begin with, in W; 0: not known. What is not known is taken as 0 until a meter has seen it.
  PowerBalance(double train_w, double idle_w) : train_w_(train_w), idle_w_(idle_w) {}

  // Joules over seconds; seconds may be 0 for energy that belongs to time already added.
  void add(bool pausing, double joules, double seconds);

  // Seconds of pause per second of work so that the mean power is cap_w: (working − cap) / (cap − pausing). 0 where working
  // does not exceed the cap; kMostPause where no pausing is enough.
  double pause_ratio(double cap_w) const;

 private:
  struct Mean {
    double joules = 0, seconds = 0;
    double power_w(double otherwise) const { return seconds > 0 ? joules / seconds : otherwise; }
  };
  double train_w_, idle_w_;
  Mean working_, pausing_;
};

// The power limits of one node's GPUs. What they were is put back when this object goes, also when the process ends by
// SIGTERM, SIGINT or SIGUSR1; after SIGKILL they stay (nvidia-smi -rac does not touch them; nvidia-smi -pl sets them).
class GpuPowerLimits {
 public:
  // Null with the reason where NVML is not there, does not know a GPU, or does not permit this process to set limits. To
  // find that out each GPU's present limit is set again, which changes nothing.
  static std::unique_ptr<GpuPowerLimits> open(const std::vector<std::string>& bus_ids, std::string* reason,
                                              const std::string& library = "libnvidia-ml.so.1");
  ~GpuPowerLimits();
  GpuPowerLimits(const GpuPowerLimits&) = delete;
  GpuPowerLimits& operator=(const GpuPowerLimits&) = delete;

  // The same limit for each GPU, within what it allows and not above what it was; returns the highest limit set. A GPU that
  // refuses keeps what it has; that is logged once.
  double set_w(double each_w);

 private:
  struct Limited {
    NvmlGpu gpu;
    double before_w, low_w;
    double now_w;
  };
  GpuPowerLimits() = default;
  std::vector<Limited> gpus_;
  bool refusal_told_ = false;
};

}  // namespace spillway
