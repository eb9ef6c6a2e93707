#include "energy/site_windows.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {
namespace {

// Rounding must not cost a node, or a window at exactly the least power.
constexpr double kSlack = 1e-9;

void limit_by_excess(const Config& config, SiteLimits* limits) {
  const SiteConfig& site = config.site;
  limits->nodes = site.nodes;
  limits->min_nodes = site.min_nodes;
  if (limits->nodes < 1 || limits->min_nodes < 1 || limits->min_nodes > limits->nodes)
    fail(ExitCode::usage, "site {}: site.min-nodes = {}, site.nodes = {}: must be from 1 to site.nodes",
         site.name, limits->min_nodes, limits->nodes);
  if (!(site.train_power_w > 0))
    fail(ExitCode::usage, "site {}: excess power limits the site: site.train-power must be more than 0 W",
         site.name);
  const double train_w = site.train_power_w * site.pue;
  limits->node_power_w = std::min(train_w, site.power_cap_w.value_or(train_w)) / limits->nodes;
  if (!site.power_cap_excess) return;
  limits->capped_from_w = site.min_power_w > 0 ? site.min_power_w : train_w / 2;
  if (limits->capped_from_w > train_w || limits->capped_from_w <= site.idle_power_w * site.pue)
    fail(ExitCode::usage,
         "site {}: site.min-power = {} W: must be more than idle power ({} W) and at most the training power "
         "({} W), PUE included",
         site.name, limits->capped_from_w, site.idle_power_w * site.pue, train_w);
}

void check_cap(const SiteConfig& site, bool has_excess) {
  if (site.power_cap_excess && !has_excess)
    fail(ExitCode::usage, "site {}: site.power-cap = excess needs excess.file or excess.provider", site.name);
  if (site.power_cap_w && site.idle_power_w * site.pue >= *site.power_cap_w)
    fail(ExitCode::usage, "site {}: site.power-cap = {} W is not more than its idle power, {} W with the PUE",
         site.name, *site.power_cap_w, site.idle_power_w * site.pue);
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

SiteLimits site_limits(const Config& config) {
  SiteLimits limits;
  limits.average_below = config.gate.average_below;
  if (limits.average_below && !config.average.is_set())
    fail(ExitCode::usage, "site {}: gate.average-below needs average.file or average.provider",
         config.site.name);
  check_cap(config.site, config.excess.is_set());
  if (config.excess.is_set()) limit_by_excess(config, &limits);
  return limits;
}

SiteSignals read_site_signals(const Config& config) {
  SiteSignals signals{site_limits(config), {}, {}, {}, {}};
  signals.gate = read_signal(config.signal);
  signals.thresholds = make_thresholds(config.gate, signals.gate);
  if (!config.average.file.empty()) {
    signals.average = read_signal(config.average);
    if (!signals.average->is_intensity())
      fail(ExitCode::usage, "site {}: average.file is in {}, not in g/kWh; average.unit changes that",
           config.site.name, signals.average->unit);
  }
  if (!config.excess.file.empty()) {
    signals.excess = read_signal(config.excess);
    if (signals.excess->unit != "MW")
      fail(ExitCode::usage, "site {}: excess.file is in {}, not in MW or kW; excess.unit changes that",
           config.site.name, signals.excess->unit);
  }
  return signals;
}

int nodes_within(const SiteLimits& limits, double excess_mw) {
  if (excess_mw < limits.least_excess_mw() * (1 - kSlack) && limits.capped_from_w > 0) return 0;
  const double nodes = std::floor(excess_mw * 1e6 / limits.node_power_w + kSlack);
  return static_cast<int>(std::clamp(nodes, limits.capped_from_w > 0 ? limits.min_nodes : 0.0,
                                     static_cast<double>(limits.nodes)));
}

bool allowed_at(const SiteLimits& limits, std::optional<double> average, std::optional<double> excess_mw) {
  if (limits.average_below && !(average && *average < *limits.average_below)) return false;
  return limits.node_power_w == 0 || (excess_mw && *excess_mw > limits.least_excess_mw() * (1 - kSlack));
}

std::vector<Window> allowed(const SiteSignals& signals, const std::vector<Window>& windows) {
  std::vector<Window> result = windows;
  if (signals.average_below)
    result = intersection(
        result, find_windows(*signals.average, {*signals.average_below, *signals.average_below, 0}, 0));
  if (!signals.excess) return result;
  GateThresholds enough;
  enough.above = true;
  enough.open_below = enough.close_above = signals.least_excess_mw() * (1 - kSlack);
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
