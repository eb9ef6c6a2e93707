// Time that a device spends on what it is given. On CUDA the host only queues work, so its clock would not do.
#pragma once

#include <chrono>

#include "kernels/ops.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "kernels/cuda/device.hpp"
#endif

namespace spillway {

// Laps between marks: mark() first, then lap_s() for the seconds from the last mark or lap to now, which waits for the
// device.
template <class Dev>
class Stopwatch;

template <>
class Stopwatch<Cpu> {
 public:
  explicit Stopwatch(Cpu&) {}
  void mark() { last_ = Clock::now(); }
  double lap_s() {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

#ifdef SPILLWAY_HAVE_CUDA
template <>
class Stopwatch<Cuda> {
 public:
  explicit Stopwatch(Cuda& device) : device_(device) {}
  void mark() { events_[current_].record(device_); }
  double lap_s() {
    const int last = current_;
    current_ = 1 - current_;
    events_[current_].record(device_);
    return events_[current_].ms_since(events_[last]) * 1e-3;
  }

 private:
  Cuda& device_;
  CudaEvent events_[2];
  int current_ = 0;
};
#endif

}  // namespace spillway
