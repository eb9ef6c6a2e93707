#include "energy/baselines.hpp"

#include <algorithm>

namespace spillway {
namespace {

constexpr double kJoulesPerKwh = 3.6e6;

// Grams of a constant power over [from, to); nothing where the signal is unknown on the way.
std::optional<double> emissions_between(const Signal& signal, double from, double to, double power_w) {
  double grams = 0;
  for (double now = from; now < to;) {
    const auto value = signal.value_at(now);
    if (!value) return std::nullopt;
    const auto after = std::upper_bound(signal.times_unix_s.begin(), signal.times_unix_s.end(), now);
    const double until =
        std::min(to, signal.held_until(static_cast<std::size_t>(after - signal.times_unix_s.begin()) - 1));
    grams += *value * power_w * (until - now) / kJoulesPerKwh;
    now = until;
  }
  return grams;
}

}  // namespace

std::optional<double> always_on_emissions_g(const Signal& signal, double start_unix_s, double energy_kwh,
                                            double power_w) {
  if (power_w <= 0 || !signal.is_intensity()) return std::nullopt;
  return emissions_between(signal, start_unix_s, start_unix_s + energy_kwh * kJoulesPerKwh / power_w,
                           power_w);
}

std::optional<WaitAwhile> wait_awhile(const Signal& signal, const std::vector<Window>& windows,
                                      double start_unix_s, double energy_kwh, double power_w) {
  if (power_w <= 0 || !signal.is_intensity()) return std::nullopt;
  double left_s = energy_kwh * kJoulesPerKwh / power_w;
  WaitAwhile result{0, start_unix_s};
  for (const Window& window : windows) {
    const double from = std::max(window.open_unix_s, start_unix_s);
    const double to = std::min(window.close_unix_s, from + left_s);
    if (left_s <= 0) break;
    if (to <= from) continue;
    const auto grams = emissions_between(signal, from, to, power_w);
    if (!grams) return std::nullopt;
    result.emissions_g += *grams;
    result.end_unix_s = to;
    left_s -= to - from;
  }
  // Instants of this size carry a rounding error of a microsecond.
  return left_s > 1e-3 ? std::nullopt : std::optional(result);
}

}  // namespace spillway
