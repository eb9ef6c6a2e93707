// All that decides when a site may run: its gate, the average intensity beside it, and the power that is in excess.
#pragma once

#include <optional>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

struct SiteSignals {
  Signal gate;
  GateThresholds thresholds;
  std::optional<Signal> average;        // g/kWh
  std::optional<double> average_below;  // windows need the average below this
  std::optional<Signal> excess;         // MW
  double node_power_w = 0;              // at the meter
  int nodes = 1, min_nodes = 1;
};

// Reads the files of [signal], [average] and [excess]. Throws as read_signal() and make_thresholds(); Error(usage) where a
// unit does not fit, gate.average-below lacks its signal, or excess power meets no declared power.
SiteSignals read_site_signals(const Config& config);

// How many of the site's nodes a power in MW carries.
int nodes_within(const SiteSignals& signals, double excess_mw);

// The windows cut to where average intensity and excess power allow the site to run, with the part of its nodes that the
// excess carries in all of the window.
std::vector<Window> allowed(const SiteSignals& signals, const std::vector<Window>& windows);

// The windows of known signals, in production: the gate with hysteresis, cut as allowed() does; those shorter than
// min_length_s are left out; then the grace period.
std::vector<Window> site_windows(const SiteSignals& signals, double min_length_s);

}  // namespace spillway
