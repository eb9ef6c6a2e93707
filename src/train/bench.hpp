// How fast ops and whole training steps run on a device, against ceilings measured in the same run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/arena.hpp"
#include "core/config.hpp"
#include "energy/meter.hpp"
#include "energy/power_cap.hpp"
#include "model/spec.hpp"

namespace spillway {

struct Ceilings {
  double copy_bytes_per_s = 0;  // a large copy on the device, bytes read plus bytes written
  double gemm_flop_per_s = 0;   // a large square matrix product in the device's compute type
  double fp8_gemm_flop_per_s =
      0;  // the same in FP8 with fast accumulation; 0: the device does not train in FP8
};

// What one op costs in a training step.
struct OpTiming {
  std::string name;
  double calls_per_step = 0;  // 0: listed for comparison, not part of a step
  double seconds = 0;         // per call, median
  double flop = 0;            // per call; 0 for ops whose ceiling is the memory
  double bytes = 0;  // per call: each tensor read once and written once; with a scale to measure, read twice
  bool fp8 = false;  // a product of FP8 matrices
  double library_s =
      0;  // what cuDNN or cuBLASLt takes for the same work, in turns with ours; 0: not compared
};

struct StepTiming {
  int micro_batch = 0;  // sequences
  double forward_backward_s = 0, gradient_norm_s = 0, optimizer_s = 0;
  double first_step_s = 0;  // with all that start-up costs: memory, trials of GEMM algorithms
  double loss_nats = 0;     // of the last step, random tokens: a sign of life
  std::vector<MemoryUse> memory;

  double step_s() const { return forward_backward_s + gradient_norm_s + optimizer_s; }
};

// 1 GiB and 8192³ on CUDA; 64 MiB and 1024³ on the CPU.
template <class Dev>
Ceilings measure_ceilings(Dev& device);

// Every op of a training step, in the precision that the device trains in, at the sizes that micro-batches of `micro_batch`
// sequences give it.
template <class Dev>
std::vector<OpTiming> time_ops(Dev& device, const GptSpec& spec, int micro_batch,
                               std::int64_t tokens_per_step);

// `steps` optimizer steps on random tokens after one that warms up; medians of each part. micro_batch 0: as plan_memory
// chooses it. Throws Error(usage) where it does not fit.
template <class Dev>
StepTiming time_step(Dev& device, const GptSpec& spec, const TrainConfig& config, const OptimConfig& optim,
                     int steps);

// What came of a power cap.
struct PowerPoint {
  double cap_w = 0;  // 0: none
  std::string by;    // what kept it: none, limit (of the GPU), pauses
  double tokens_per_s = 0, mean_w = 0;
  double tokens_per_kwh() const { return tokens_per_s / mean_w * 3.6e6; }
};

struct PowerBench {
  std::vector<double> caps_w;  // of the device: of a GPU alone where its counter is read, else of the node
  double seconds = 10;         // of each measurement, after half as much to settle
  EnergyMeter* meter = nullptr;
  bool gpu_only = false;             // the meter's GPU part counts
  GpuPowerLimits* limits = nullptr;  // null: by pauses alone
};

// Whole steps on random tokens under each cap, the first without one. Throws Error(usage) where the power is not known.
template <class Dev>
std::vector<PowerPoint> time_power(Dev& device, const GptSpec& spec, const TrainConfig& config,
                                   const OptimConfig& optim, const PowerBench& bench);

// For the log: which plans the device made at its first step. Empty on the CPU.
template <class Dev>
std::string device_plans(Dev& device);

// "NVIDIA H100 80GB HBM3", or the number of CPU threads.
template <class Dev>
std::string device_description(Dev& device);

}  // namespace spillway
