// Timing of alternatives at start-up.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "kernels/cuda/device.hpp"

namespace spillway {

// Medians of five runs of each of two alternatives, in milliseconds, after one run that warms up. They run in turns: a GPU's
// clock changes while it works, and would favour one of them.
template <class First, class Second>
std::pair<float, float> medians_ms(const Cuda& device, const First& first, const Second& second) {
  constexpr std::size_t kTimings = 5;
  CudaEvent start, stop;
  const auto time_ms = [&](const auto& run) {
    start.record(device);
    run();
    stop.record(device);
    return stop.ms_since(start);
  };
  std::array<float, kTimings> first_ms{}, second_ms{};
  first();
  second();
  for (std::size_t i = 0; i < kTimings; ++i) {
    first_ms[i] = time_ms(first);
    second_ms[i] = time_ms(second);
  }
  std::sort(first_ms.begin(), first_ms.end());
  std::sort(second_ms.begin(), second_ms.end());
  return {first_ms[kTimings / 2], second_ms[kTimings / 2]};
}

}  // namespace spillway
