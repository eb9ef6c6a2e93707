#include "train/pacer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/clock.hpp"
#include "core/stop.hpp"

namespace spillway {
namespace {

constexpr double kLongestNap_s = 0.05;  // until a request to stop is seen
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

void Pacer::pause() {
  const double now_s = time_.now_s();
  owed_s_ += ratio_ * (worked_s_ + now_s - since_s_);
  worked_s_ = 0;
  since_s_ = now_s;
  if (owed_s_ < kShortestPause_s) return;
  if (watch_) watch_(true);
  for (double left_s = owed_s_; left_s > 0 && stop_signal() == 0; left_s = now_s + owed_s_ - time_.now_s())
    time_.sleep(std::min(left_s, kLongestNap_s));
  since_s_ = time_.now_s();
  owed_s_ = std::max(std::min(owed_s_ - (since_s_ - now_s), 0.0), -kMostCredit_s);
  if (watch_) watch_(false);
}

}  // namespace spillway
