// When a site may train: a gate with hysteresis over a signal. Pure: no clock, no I/O.
#pragma once

#include <optional>
#include <vector>

#include "core/config.hpp"
#include "energy/signal.hpp"

namespace spillway {

// [open, close)
struct Window {
  double open_unix_s = 0;
  double close_unix_s = 0;
  double part = 1;  // of the site's nodes that may run
  double length_s() const { return close_unix_s - open_unix_s; }
};

enum class GateState {
  idle,   // closed
  train,  // open
  drain,  // the signal has closed, the grace period runs
};

struct GateThresholds {
  double open_below = 0;   // opens where the value is below this
  double close_above = 0;  // closes where it is not below this; at least open_below
  double grace_s = 0;      // stays open (drain) this long after the signal closes
  bool above = false;      // the mirror image: opens above open_below, closes where not above close_above

  bool opens(double value) const { return above ? value > open_below : value < open_below; }
  bool stays(double value) const { return above ? value > close_above : value < close_above; }
};

// From the configuration: absolute thresholds, or a percentile of the signal. Throws Error(usage) where not exactly one of
// open-below, open-above and percentile is given, or the closing threshold is on the wrong side of the opening one.
GateThresholds make_thresholds(const GateConfig& config, const Signal& signal);

// The gate itself. Feed it the value in force at growing instants; nothing = unknown, which counts as closed. It knows no
// future and so no minimum length: live, it opens at once, and a caller that has a forecast asks find_windows() of it.
class Gate {
 public:
  explicit Gate(const GateThresholds& thresholds) : thresholds_(thresholds) {}
  GateState update(double now_unix_s, std::optional<double> value);
  GateState state() const { return state_; }

 private:
  GateThresholds thresholds_;
  GateState state_ = GateState::idle;
  double drain_until_unix_s_ = 0;
};

// The windows of a known signal, disjoint and in order: the gate run over all of it. Windows shorter than min_length_s (without the grace
// period) are left out: with the file at hand their length is known before they open. The grace period ends with the signal.
std::vector<Window> find_windows(const Signal& signal, const GateThresholds& thresholds, double min_length_s);

// The same windows, each grace_s longer but not beyond end_unix_s; those that touch become one, with the smaller part.
std::vector<Window> with_grace(const std::vector<Window>& windows, double grace_s, double end_unix_s);

// Where both are open; with the smaller part.
std::vector<Window> intersection(const std::vector<Window>& a, const std::vector<Window>& b);

// The window (of disjoint ones, in order) that holds the instant, or the next one after it; null after the last.
const Window* window_at_or_after(const std::vector<Window>& windows, double unix_s);

}  // namespace spillway
