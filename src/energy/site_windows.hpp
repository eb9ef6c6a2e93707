// All that decides when a site may run: its gate, the average intensity beside it, and the power that is in excess.
#pragma once

#include <optional>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// What a site needs beside its gate's signal.
struct SiteLimits {
  std::optional<double> average_below;  // windows need the average below this, g/kWh
  double node_power_w = 0;              // at the meter; 0 without excess power
  int nodes = 1, min_nodes = 1;
  // site.power-cap = excess: the site opens from this excess on and caps its power, W at the meter; 0: it does not.
  double capped_from_w = 0;

  // The least excess, in MW, with which the site runs.
  double least_excess_mw() const {
    return (capped_from_w > 0 ? capped_from_w : min_nodes * node_power_w) / 1e6;
  }
};

struct SiteSignals : SiteLimits {
  Signal gate;
  GateThresholds thresholds;
  std::optional<Signal> average;  // g/kWh
  std::optional<Signal> excess;   // MW
};

// Throws Error(usage) where gate.average-below lacks its signal, excess power meets no declared power, or a power cap does
// not fit the declared powers.
SiteLimits site_limits(const Config& config);

// Reads the files of [signal], [average] and [excess]. Throws as site_limits(), read_signal() and make_thresholds(), and
// Error(usage) where a unit does not fit.
SiteSignals read_site_signals(const Config& config);

// Whether the values beside the gate's let the site run; unknown ones do not.
bool allowed_at(const SiteLimits& limits, std::optional<double> average, std::optional<double> excess_mw);

// How many of the site's nodes a power in MW carries; where the site caps its power, at least min_nodes from
// least_excess_mw() on.
int nodes_within(const SiteLimits& limits, double excess_mw);

// The windows cut to where average intensity and excess power allow the site to run, with the part of its nodes that the
// excess carries in all of the window.
std::vector<Window> allowed(const SiteSignals& signals, const std::vector<Window>& windows);

// The windows of known signals, in production: the gate with hysteresis, cut as allowed() does; those shorter than
// min_length_s are left out; then the grace period.
std::vector<Window> site_windows(const SiteSignals& signals, double min_length_s);

}  // namespace spillway
