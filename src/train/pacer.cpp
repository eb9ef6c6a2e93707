#include "train/pacer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/clock.hpp"
#include "core/stop.hpp"

namespace spillway {
namespace {

constexpr double kLongestNap_s = 0.05;  // until a request to stop is seen

}  // namespace

void Pacer::begin_work() { since_s_ = monotonic_s(); }

void Pacer::end_work() {
  worked_s_ += monotonic_s() - since_s_;
  if (!paces()) worked_s_ = 0;
}

void Pacer::pause() {
  const double now_s = monotonic_s();
  worked_s_ += now_s - since_s_;
  const double until_s = now_s + ratio_ * worked_s_;
  worked_s_ = 0;
  if (watch_) watch_(true);
  for (double left_s = until_s - now_s; left_s > 0 && stop_signal() == 0; left_s = until_s - monotonic_s())
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left_s, kLongestNap_s)));
  if (watch_) watch_(false);
  since_s_ = monotonic_s();
}

}  // namespace spillway
