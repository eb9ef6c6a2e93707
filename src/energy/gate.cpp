#include "energy/gate.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "energy/units.hpp"

namespace spillway {

GateThresholds make_thresholds(const GateConfig& config, const Signal& signal) {
  if (config.open_below.has_value() + config.open_above.has_value() + config.percentile.has_value() != 1)
    fail(ExitCode::usage, "gate: give one of gate.open-below, gate.open-above (in {}) and gate.percentile",
         signal.unit);
  if (config.percentile && signal.unit == kPercentileUnit)
    fail(ExitCode::usage,
         "gate.percentile: the signal is a percentile already; set gate.open-below = {} instead",
         *config.percentile);
  GateThresholds thresholds;
  thresholds.grace_s = config.grace_s;
  if (config.open_above) {
    thresholds.above = true;
    thresholds.open_below = *config.open_above;
    thresholds.close_above = config.close_below.value_or(thresholds.open_below);
    if (thresholds.close_above > thresholds.open_below)
      fail(ExitCode::usage, "gate.close-below = {} is above gate.open-above = {}: the gate would flicker",
           thresholds.close_above, thresholds.open_below);
    return thresholds;
  }
  thresholds.open_below = config.open_below ? *config.open_below : percentile(signal, *config.percentile);
  thresholds.close_above = config.close_above.value_or(thresholds.open_below);
  if (thresholds.close_above < thresholds.open_below)
    fail(ExitCode::usage, "gate.close-above = {} is below gate.open-below = {}: the gate would flicker",
         thresholds.close_above, thresholds.open_below);
  return thresholds;
}

GateState Gate::update(double now_unix_s, std::optional<double> value) {
  const bool opens = value && thresholds_.opens(*value);
  const bool stays = value && thresholds_.stays(*value);
  switch (state_) {
    case GateState::idle:
      if (opens) state_ = GateState::train;
      break;
    case GateState::train:
      if (!stays) {
        state_ = thresholds_.grace_s > 0 ? GateState::drain : GateState::idle;
        drain_until_unix_s_ = now_unix_s + thresholds_.grace_s;
      }
      break;
    case GateState::drain:
      if (opens)
        state_ = GateState::train;
      else if (now_unix_s >= drain_until_unix_s_)
        state_ = GateState::idle;
      break;
  }
  return state_;
}

std::vector<Window> find_windows(const Signal& signal, const GateThresholds& thresholds,
                                 double min_length_s) {
  // The gate changes state at samples and at the ends of what they hold; the grace period is added afterwards, which may
  // join two windows.
  GateThresholds without_grace = thresholds;
  without_grace.grace_s = 0;
  Gate gate(without_grace);
  std::vector<Window> raw;
  bool open = false;
  const auto feed = [&](double at, std::optional<double> value) {
    const bool now_open = gate.update(at, value) == GateState::train;
    if (now_open && !open) raw.push_back({at, at});
    if (!now_open && open) raw.back().close_unix_s = at;
    open = now_open;
  };
  for (std::size_t i = 0; i < signal.times_unix_s.size(); ++i) {
    feed(signal.times_unix_s[i], signal.value_at(signal.times_unix_s[i]));
    const double until = signal.held_until(i);
    const bool last = i + 1 == signal.times_unix_s.size();
    if (last || until < signal.times_unix_s[i + 1]) feed(until, std::nullopt);
  }
  std::erase_if(raw, [&](const Window& window) { return window.length_s() < min_length_s; });
  return with_grace(raw, thresholds.grace_s, signal.end_unix_s());
}

std::vector<Window> with_grace(const std::vector<Window>& windows, double grace_s, double end_unix_s) {
  std::vector<Window> result;
  for (const Window& window : windows) {
    const double close = std::min(window.close_unix_s + grace_s, std::max(end_unix_s, window.close_unix_s));
    if (!result.empty() && window.open_unix_s <= result.back().close_unix_s) {
      result.back().close_unix_s = close;
      result.back().part = std::min(result.back().part, window.part);
    } else {
      result.push_back({window.open_unix_s, close, window.part});
    }
  }
  return result;
}

std::vector<Window> intersection(const std::vector<Window>& a, const std::vector<Window>& b) {
  std::vector<Window> result;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const double open = std::max(a[i].open_unix_s, b[j].open_unix_s);
    const double close = std::min(a[i].close_unix_s, b[j].close_unix_s);
    if (open < close) result.push_back({open, close, std::min(a[i].part, b[j].part)});
    a[i].close_unix_s < b[j].close_unix_s ? ++i : ++j;
  }
  return result;
}

const Window* window_at_or_after(const std::vector<Window>& windows, double unix_s) {
  const auto found =
      std::upper_bound(windows.begin(), windows.end(), unix_s,
                       [](double instant, const Window& window) { return instant < window.close_unix_s; });
  return found == windows.end() ? nullptr : &*found;
}

}  // namespace spillway
