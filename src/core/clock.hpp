// The clock that gates, plans and meters read: real time, or a signal replayed faster than real time.
#pragma once

#include <chrono>
#include <ctime>

namespace spillway {

// Seconds since the epoch on the machine's own clock.
inline double system_unix_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Seconds on a clock that never jumps; only differences mean anything.
inline double monotonic_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// simulated = start + speed · (real − origin). Real time is start = origin, speed = 1.
// The hub fixes the three numbers once per run and serves them, so that all sites agree.
struct ClockSpec {
  double start_unix_s = 0;   // simulated instant at the origin
  double origin_unix_s = 0;  // system time at which the replay started
  double speed = 1;          // simulated seconds per real second

  double at(double system_s) const { return start_unix_s + speed * (system_s - origin_unix_s); }
  double now_unix_s() const { return at(system_unix_s()); }
  // Real seconds from now until a simulated instant; negative if it has passed.
  double real_seconds_until(double simulated_unix_s) const {
    return (simulated_unix_s - now_unix_s()) / speed;
  }
};

}  // namespace spillway
