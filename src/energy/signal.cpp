#include "energy/signal.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/log.hpp"
#include "energy/import.hpp"
#include "energy/text_file.hpp"

namespace spillway {

double Signal::start_unix_s() const { return times_unix_s.empty() ? 0 : times_unix_s.front(); }
double Signal::end_unix_s() const { return times_unix_s.empty() ? 0 : held_until(times_unix_s.size() - 1); }

double Signal::held_until(std::size_t index) const {
  const double own = times_unix_s[index];
  const double step = steps_s.empty() ? step_s : steps_s[index];
  if (index + 1 == times_unix_s.size()) return own + step;
  const double next = times_unix_s[index + 1];
  return next - own > 2 * step ? own + step : next;
}

std::optional<double> Signal::value_at(double unix_s) const {
  const auto after = std::upper_bound(times_unix_s.begin(), times_unix_s.end(), unix_s);
  if (after == times_unix_s.begin()) return std::nullopt;
  const auto index = static_cast<std::size_t>(after - times_unix_s.begin()) - 1;
  if (unix_s >= held_until(index)) return std::nullopt;
  return values[index];
}

std::vector<Signal::Gap> Signal::gaps() const {
  std::vector<Gap> result;
  for (std::size_t i = 0; i + 1 < times_unix_s.size(); ++i)
    if (held_until(i) < times_unix_s[i + 1]) result.push_back({held_until(i), times_unix_s[i + 1]});
  return result;
}

void Signal::append(double at_unix_s, double length_s, double value) {
  const bool differs = !steps_s.empty() || length_s != step_s;
  if (differs && steps_s.empty()) steps_s.assign(values.size(), step_s);
  times_unix_s.push_back(at_unix_s);
  values.push_back(value);
  if (differs) steps_s.push_back(length_s);
}

Signal joined(const Signal& earlier, const Signal& later) {
  Signal result = earlier;
  result.times_unix_s.clear();
  result.values.clear();
  result.steps_s.clear();
  const auto add = [&](const Signal& from, std::size_t i) {
    const double own = from.times_unix_s[i];
    result.append(own, from.steps_s.empty() ? from.step_s : from.steps_s[i], from.values[i]);
  };
  std::size_t i = 0, j = 0;
  while (i < earlier.values.size() || j < later.values.size()) {
    const bool ended = i == earlier.values.size();
    if (ended || (j < later.values.size() && later.times_unix_s[j] <= earlier.times_unix_s[i])) {
      if (!ended && later.times_unix_s[j] == earlier.times_unix_s[i]) ++i;
      add(later, j++);
    } else {
      add(earlier, i++);
    }
  }
  return result;
}

Signal read_signal(const SignalConfig& config) {
  const Import import = import_signal(config);
  for (const std::string& warning : import.warnings) log_warning("{}: {}", import.name, warning);
  return import.signal;
}

double percentile(const Signal& signal, double p) {
  if (!(p >= 0 && p <= 100)) fail(ExitCode::usage, "gate.percentile = {}: must be between 0 and 100", p);
  if (signal.values.empty())
    fail(ExitCode::bad_data, "region {}: no values for a percentile", shown(signal.region));
  std::vector<double> sorted = signal.values;
  std::sort(sorted.begin(), sorted.end());
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (rank - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

}  // namespace spillway
