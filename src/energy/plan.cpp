#include "energy/plan.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/rng.hpp"

namespace spillway {
namespace {

constexpr double kDayS = 86400;

}  // namespace

std::vector<Overlap> find_overlaps(const std::vector<std::vector<Window>>& windows) {
  std::vector<double> cuts;
  for (const auto& site : windows)
    for (const Window& window : site) {
      cuts.push_back(window.open_unix_s);
      cuts.push_back(window.close_unix_s);
    }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<Overlap> overlaps;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    Overlap overlap{cuts[i], cuts[i + 1], {}};
    for (std::size_t site = 0; site < windows.size(); ++site) {
      const Window* window = window_at_or_after(windows[site], cuts[i]);
      if (window != nullptr && window->open_unix_s <= cuts[i]) overlap.sites.push_back(site);
    }
    if (overlap.sites.size() < 2) continue;
    if (!overlaps.empty() && overlaps.back().end_unix_s == overlap.start_unix_s &&
        overlaps.back().sites == overlap.sites)
      overlaps.back().end_unix_s = overlap.end_unix_s;
    else
      overlaps.push_back(std::move(overlap));
  }
  return overlaps;
}

double covered_part(const Window& window, const std::vector<Window>& others) {
  double covered_s = 0;
  for (const Window& other : others)
    covered_s += std::max(0.0, std::min(window.close_unix_s, other.close_unix_s) -
                                   std::max(window.open_unix_s, other.open_unix_s));
  return window.length_s() > 0 ? covered_s / window.length_s() : 0;
}

Signal signal_from(const Signal& signal, double from_unix_s) {
  Signal result = signal;
  const auto after = std::upper_bound(signal.times_unix_s.begin(), signal.times_unix_s.end(), from_unix_s);
  auto first = static_cast<std::size_t>(after - signal.times_unix_s.begin());
  const bool in_force = first > 0 && from_unix_s < signal.held_until(first - 1);
  if (in_force) --first;
  const auto drop = [first](std::vector<double>* values) {
    if (!values->empty())
      values->erase(values->begin(), values->begin() + static_cast<std::ptrdiff_t>(first));
  };
  const double end_unix_s = in_force ? signal.held_until(first) : 0;
  drop(&result.times_unix_s);
  drop(&result.values);
  drop(&result.steps_s);
  if (in_force) {
    // It still ends when it did.
    if (result.steps_s.empty()) result.steps_s.assign(result.values.size(), result.step_s);
    result.times_unix_s.front() = from_unix_s;
    result.steps_s.front() = end_unix_s - from_unix_s;
  }
  return result;
}

Signal spliced(const Signal& history, const Signal& forecast) {
  const double from = forecast.start_unix_s();
  Signal result = history;
  result.times_unix_s.clear();
  result.values.clear();
  result.steps_s.clear();
  for (std::size_t i = 0; i < history.values.size() && history.times_unix_s[i] < from; ++i)
    result.append(history.times_unix_s[i], std::min(history.held_until(i), from) - history.times_unix_s[i],
                  history.values[i]);
  for (std::size_t i = 0; i < forecast.values.size(); ++i)
    result.append(forecast.times_unix_s[i], forecast.held_until(i) - forecast.times_unix_s[i],
                  forecast.values[i]);
  return result;
}

Signal repeated_until(const Signal& signal, double until_unix_s) {
  Signal result = signal;
  const double end = signal.end_unix_s();
  const Signal last_day = signal_from(signal, std::max(signal.start_unix_s(), end - kDayS));
  for (double later_s = kDayS; end + later_s - kDayS < until_unix_s; later_s += kDayS)
    for (std::size_t i = 0; i < last_day.values.size(); ++i) {
      const double at = last_day.times_unix_s[i] + later_s;
      if (at >= until_unix_s) return result;
      const double held = std::min(last_day.held_until(i) + later_s, until_unix_s);
      result.append(at, held - at, last_day.values[i]);
    }
  return result;
}

std::optional<Signal> perturbed(const Signal& signal, double from_unix_s, std::uint64_t seed,
                                std::uint64_t draw) {
  Signal result = signal_from(signal, from_unix_s);
  const double history_s = from_unix_s - signal.start_unix_s();
  if (history_s < 2 * kDayS || result.values.empty()) return std::nullopt;
  // The stretch is one of [start + 24 h, from), at the same time of day as the plan, and repeats where the plan is longer.
  const double days = std::floor((history_s - kDayS) / kDayS);
  const double back_days = 1 + std::floor(uniform01(seed, draw, 0) * static_cast<float>(days));
  for (std::size_t i = 0; i < result.values.size(); ++i) {
    const double ahead_s = result.times_unix_s[i] - from_unix_s;
    const double at = from_unix_s - back_days * kDayS + std::fmod(ahead_s, back_days * kDayS);
    const auto came = signal.value_at(at), was_said = signal.value_at(at - kDayS);
    if (!came || !was_said) continue;
    result.values[i] += *came - *was_said;
    if (result.is_intensity()) result.values[i] = std::max(0.0, result.values[i]);
  }
  return result;
}

Quantiles quantiles(std::vector<double> values) {
  SPILLWAY_CHECK(!values.empty());
  Signal sorted;
  sorted.values = std::move(values);
  return {percentile(sorted, 10), percentile(sorted, 50), percentile(sorted, 90)};
}

}  // namespace spillway
