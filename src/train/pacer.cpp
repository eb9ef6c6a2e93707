#include "train/pacer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/clock.hpp"
#include "core/stop.hpp"

namespace spillway {
namespace {

constexpr double kLongestNap_s = 0.05;  // until a request to stop is seen
constexpr double kLeastNap_s = 1e-6;    // less is lost in the clock's rounding
constexpr double kShortestPause_s = 0.005;
constexpr double kMostCredit_s = 1;  // of a machine that slept for longer, nothing more is carried on

}  // namespace

Pacer::Time Pacer::real_time() {
  return {monotonic_s,
          [](double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }};
}

void Pacer::begin_work() { since_s_ = time_.now_s(); }

void Pacer::end_work() {
  worked_s_ += time_.now_s() - since_s_;
  if (!paces()) worked_s_ = 0;
}

double Pacer::nap_s() {
  const double now_s = time_.now_s();
  if (!pausing_) {
    owed_s_ += ratio_ * (worked_s_ + now_s - since_s_);
    worked_s_ = 0;
    since_s_ = now_s;
    if (owed_s_ < kShortestPause_s) return 0;
    pausing_ = true;
    paused_s_ = now_s;
    if (watch_) watch_(true);
  }
  const double left_s = owed_s_ - (now_s - paused_s_);
  if (left_s > kLeastNap_s && stop_signal() == 0) return std::min(left_s, kLongestNap_s);
  pausing_ = false;
  since_s_ = now_s;
  owed_s_ = std::max(std::min(left_s, 0.0), -kMostCredit_s);
  if (watch_) watch_(false);
  return 0;
}

void Pacer::pause() {
  for (double seconds = nap_s(); seconds > 0; seconds = nap_s()) nap(seconds);
}

}  // namespace spillway
