// Timing of alternatives at start-up.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/cuda/device.hpp"

namespace spillway {

// Median of three runs after one that warms up.
template <class Run>
float median_ms(const Cuda& device, const Run& run) {
  constexpr int kTimings = 3;
  run();
  CudaEvent start, stop;
  std::array<float, kTimings> times{};
  for (float& time : times) {
    start.record(device);
    run();
    stop.record(device);
    time = stop.ms_since(start);
  }
  std::sort(times.begin(), times.end());
  return times[kTimings / 2];
}

}  // namespace spillway
