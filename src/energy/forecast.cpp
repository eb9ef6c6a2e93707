#include "energy/forecast.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.hpp"
#include "energy/import.hpp"

namespace spillway {

std::optional<double> YesterdayForecast::predicted(double now_unix_s, double at_unix_s) const {
  constexpr double kDayS = 86400;
  return at_unix_s - kDayS <= now_unix_s ? signal_.value_at(at_unix_s - kDayS) : std::nullopt;
}

IssuedForecast::IssuedForecast(const SignalConfig& config) {
  for (Import& step : import_forecasts(config)) steps_.push_back(std::move(step.signal));
}

std::optional<double> IssuedForecast::predicted(double now_unix_s, double at_unix_s) const {
  const double step_s = steps_.front().step_s;
  // The step of the forecast in whose interval the instant lies, counted from the latest issue.
  const Signal& first = steps_.front();
  const auto after = std::upper_bound(first.times_unix_s.begin(), first.times_unix_s.end(), now_unix_s);
  if (after == first.times_unix_s.begin()) return std::nullopt;
  const double steps_ahead = std::floor((at_unix_s - *(after - 1)) / step_s);
  if (steps_ahead < 1 || steps_ahead > static_cast<double>(steps_.size())) return std::nullopt;
  return steps_[static_cast<std::size_t>(steps_ahead) - 1].value_at(now_unix_s);
}

}  // namespace spillway
