// Whether another process of this host still runs, judged by a number that it changes now and then.
//
// Time counts only while the judge itself looks: on a machine that stands still, or is too busy for either, nobody is
// accused. Pure: no clock, no memory of other processes.
#pragma once

#include <cstdint>
#include <optional>

namespace spillway {

class LifeWatch {
 public:
  // It is silent once the number has stayed the same for `silence_s`.
  explicit LifeWatch(double silence_s) : silence_s_(silence_s) {}

  // One look at the number. Call a few times per second.
  void look(double now_s, std::uint64_t number);
  bool silent() const { return unchanged_s_ > silence_s_; }

 private:
  double silence_s_;
  std::optional<std::uint64_t> number_;  // at the last look
  double looked_s_ = 0;
  double unchanged_s_ = 0;  // as far as it has been watched
};

}  // namespace spillway
