#include "energy/site_windows.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

void read_excess(const Config& config, SiteSignals* signals) {
  signals->excess = read_signal(config.excess);
  if (signals->excess->unit != "MW")
    fail(ExitCode::usage, "site {}: excess.file is in {}, not in MW or kW; excess.unit changes that",
         config.site.name, signals->excess->unit);
  signals->nodes = config.site.nodes;
  signals->min_nodes = config.site.min_nodes;
  if (signals->nodes < 1 || signals->min_nodes < 1 || signals->min_nodes > signals->nodes)
    fail(ExitCode::usage, "site {}: site.min-nodes = {}, site.nodes = {}: must be from 1 to site.nodes",
         config.site.name, signals->min_nodes, signals->nodes);
  if (!(config.site.train_power_w > 0))
    fail(ExitCode::usage, "site {}: excess power limits the site: site.train-power must be more than 0 W",
         config.site.name);
  signals->node_power_w = config.site.train_power_w * config.site.pue / signals->nodes;
}

// The part of the nodes that the excess carries from the first to the last instant.
double part_within(const SiteSignals& signals, const Window& window) {
  const Signal& excess = *signals.excess;
  const auto& times = excess.times_unix_s;
  int nodes = signals.nodes;
  // From the sample in force where the window opens; windows lie where the excess is known.
  auto at = std::upper_bound(times.begin(), times.end(), window.open_unix_s);
  for (at -= at != times.begin(); at != times.end() && *at < window.close_unix_s; ++at)
    nodes =
        std::min(nodes, nodes_within(signals, excess.values[static_cast<std::size_t>(at - times.begin())]));
  return static_cast<double>(nodes) / signals.nodes;
}

}  // namespace

SiteSignals read_site_signals(const Config& config) {
  SiteSignals signals;
  signals.gate = read_signal(config.signal);
  signals.thresholds = make_thresholds(config.gate, signals.gate);
  if (!config.average.file.empty()) {
    signals.average = read_signal(config.average);
    if (!signals.average->is_intensity())
      fail(ExitCode::usage, "site {}: average.file is in {}, not in g/kWh; average.unit changes that",
           config.site.name, signals.average->unit);
  }
  signals.average_below = config.gate.average_below;
  if (signals.average_below && !signals.average)
    fail(ExitCode::usage, "site {}: gate.average-below needs average.file", config.site.name);
  if (!config.excess.file.empty()) read_excess(config, &signals);
  return signals;
}

int nodes_within(const SiteSignals& signals, double excess_mw) {
  // Rounding must not cost a node.
  const double nodes = std::floor(excess_mw * 1e6 / signals.node_power_w + 1e-9);
  return static_cast<int>(std::clamp(nodes, 0.0, static_cast<double>(signals.nodes)));
}

std::vector<Window> allowed(const SiteSignals& signals, const std::vector<Window>& windows) {
  std::vector<Window> result = windows;
  if (signals.average_below)
    result = intersection(
        result, find_windows(*signals.average, {*signals.average_below, *signals.average_below, 0}, 0));
  if (!signals.excess) return result;
  GateThresholds enough;
  enough.above = true;
  // Just below the power of the least number of nodes: at exactly that power they run.
  enough.open_below = enough.close_above = signals.min_nodes * signals.node_power_w / 1e6 * (1 - 1e-9);
  result = intersection(result, find_windows(*signals.excess, enough, 0));
  for (Window& window : result) window.part = part_within(signals, window);
  return result;
}

std::vector<Window> site_windows(const SiteSignals& signals, double min_length_s) {
  GateThresholds plain = signals.thresholds;
  plain.grace_s = 0;
  std::vector<Window> windows = allowed(signals, find_windows(signals.gate, plain, 0));
  std::erase_if(windows, [&](const Window& window) { return window.length_s() < min_length_s; });
  return with_grace(windows, signals.thresholds.grace_s, signals.gate.end_unix_s());
}

}  // namespace spillway
