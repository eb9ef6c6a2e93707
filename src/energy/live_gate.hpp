// The production gate of a site whose signals are live: what site_windows() is for signals known beforehand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/live_signal.hpp"
#include "energy/site_windows.hpp"

namespace spillway {

// Whether any signal of the site is live; then its future is not known, and neither are its windows.
bool has_live_signal(const Config& config);

// Thresholds of [gate] over a live signal: a percentile is one of signal.file. Throws as make_thresholds().
GateThresholds live_thresholds(const Config& config);

// What a site's signals say at one instant; nothing: unknown, or no such signal.
struct LiveValues {
  bool open = false;
  std::optional<double> gate, emissions, average, excess;  // gate in gate_unit, g/kWh, g/kWh, MW
  std::string gate_unit;                                   // empty until the first value came
  bool operator==(const LiveValues&) const = default;
};

// [signal] opens and closes with hysteresis; [average] and [excess] must allow it, as allowed() says of known signals. An
// unknown value counts as closed. A minimum length cannot be kept, for nobody knows how long a window will be.
class LiveGate {
 public:
  // Signals without a provider are read from their files. Thresholds are those of [gate]; a percentile is one of
  // signal.file. Throws Error(usage) where they cannot be had, or the clock is a replayed one.
  explicit LiveGate(const Config& config);
  bool open(double now_unix_s);
  // The last one ends at the last instant that open() was asked about.
  const std::vector<Window>& windows() const { return windows_; }
  // As of now; open as open() last said.
  LiveValues values_at(double now_unix_s) const;

  Signal signal() const { return gate_feed_->snapshot(); }
  std::optional<Signal> emissions() const { return snapshot(emissions_); }
  std::optional<Signal> average() const { return snapshot(average_); }

 private:
  using MaybeFeed = std::unique_ptr<Feed>;
  static std::optional<Signal> snapshot(const MaybeFeed& feed) {
    return feed ? std::optional(feed->snapshot()) : std::nullopt;
  }
  bool allowed_beside(double now_unix_s) const;

  SiteLimits limits_;
  MaybeFeed gate_feed_, emissions_, average_, excess_;
  std::optional<Gate> gate_;
  double grace_s_ = 0;
  double open_until_unix_s_ = 0;  // of the grace period
  std::vector<Window> windows_;
  bool open_ = false;
};

}  // namespace spillway
