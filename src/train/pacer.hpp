// Pauses between pieces of work, so that a rank works only part of the time. What it computes does not change.
#pragma once

#include <functional>

namespace spillway {

class Pacer {
 public:
  // Told when a pause begins (true) and when it has ended (false).
  using Watch = std::function<void(bool pausing)>;
  // Where time comes from; tests bring their own.
  struct Time {
    std::function<double()> now_s;  // monotonic
    std::function<void(double seconds)> sleep;
  };
  static Time real_time();
  explicit Pacer(Watch watch = {}, Time time = real_time())
      : watch_(std::move(watch)), time_(std::move(time)) {}

  // Seconds of pause per second of work, from now on; 0: no pauses.
  void set_ratio(double ratio) { ratio_ = ratio; }
  bool paces() const { return ratio_ > 0; }

  // Around the work that is to be paid for by pauses.
  void begin_work();
  void end_work();
  // What lay between two pieces of work and drew their power.
  void add_work(double seconds) { worked_s_ += seconds; }
  // Between two pieces of it, when the device has finished the first: the seconds to sleep now before asking again, 0.05 at
  // most; 0: the work done so far is paid for, go on. Very short pauses are put off, and what one was too long the next one
  // is shorter. A pause ends early where the process is asked to stop.
  double nap_s();
  void nap(double seconds) { time_.sleep(seconds); }
  // All naps of one pause, for a rank that works alone.
  void pause();

 private:
  Watch watch_;
  Time time_;
  double ratio_ = 0;
  double since_s_ = 0;   // monotonic, of the work going on
  double worked_s_ = 0;  // not paid for yet
  double owed_s_ = 0;    // of pauses; negative: they were too long
  bool pausing_ = false;
  double paused_s_ = 0;  // monotonic, when the pause began
};

}  // namespace spillway
