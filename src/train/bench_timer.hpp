// Times ops by themselves, over and over. Included only by the other bench_*.hpp.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "train/bench.hpp"
#include "train/stopwatch.hpp"

namespace spillway::bench_detail {

// Between the two a profiler that waits for it (ncu --profile-from-start off) records what the device is given.
inline void set_profiled(Cpu&, bool) {}
#ifdef SPILLWAY_HAVE_CUDA
inline void set_profiled(Cuda& device, bool on) { device.set_profiled(on); }
#endif

using Run = std::function<void()>;

// Median seconds of each of several runs that take turns, about a quarter of a second of each. Ops that are to be compared
// take turns because a hot GPU lowers its clock. A profiler sees each run once.
template <class Dev>
std::vector<double> medians_s(Dev& device, const std::vector<Run>& runs) {
  Stopwatch<Dev> watch(device);
  for (const Run& run : runs) run();  // plans, caches, page faults
  set_profiled(device, true);
  watch.mark();
  for (const Run& run : runs) run();
  const double all_s = watch.lap_s();
  set_profiled(device, false);
  const double wanted = 0.25 * static_cast<double>(runs.size()) / all_s;
  const auto repeats = static_cast<std::size_t>(std::clamp(wanted, 3.0, 15.0));
  std::vector<std::vector<double>> times(runs.size());
  for (std::size_t i = 0; i < repeats; ++i)
    for (std::size_t run = 0; run < runs.size(); ++run) {
      watch.mark();
      runs[run]();
      times[run].push_back(watch.lap_s());
    }
  std::vector<double> medians;
  for (std::vector<double>& of_run : times) {
    std::sort(of_run.begin(), of_run.end());
    medians.push_back(of_run[repeats / 2]);
  }
  return medians;
}
template <class Dev>
double median_s(Dev& device, const Run& run) {
  return medians_s(device, {run}).front();
}

// Times ops and keeps what came out. calls: per step, 0 for what is listed for comparison alone.
template <class Dev>
class OpTimer {
 public:
  explicit OpTimer(Dev& device) : device_(device) {}

  void time(const std::string& name, double calls, double flop, double bytes, const Run& op) {
    timings_.push_back({name, calls, median_s(device_, op), flop, bytes});
  }
  void time_fp8_product(const std::string& name, double calls, double flop, const Run& op) {
    time(name, calls, flop, 0, op);
    timings_.back().fp8 = true;
  }
  // The same work by our kernel and by a library, in turns.
  void compare(const std::string& name, double flop, const Run& own, const std::string& library_name,
               const Run& library) {
    const std::vector<double> seconds = medians_s(device_, {own, library});
    timings_.push_back({name + " (own)", 0, seconds[0], flop, 0, false, seconds[1]});
    timings_.push_back({name + " (" + library_name + ")", 0, seconds[1], flop, 0});
  }

  std::vector<OpTiming> take() { return std::move(timings_); }

 private:
  Dev& device_;
  std::vector<OpTiming> timings_;
};

}  // namespace spillway::bench_detail
