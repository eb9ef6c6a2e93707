#include "train/gate_description.hpp"

#include <fstream>
#include <iterator>

#include "core/hash.hpp"

namespace spillway {
namespace {

using nlohmann::json;

// [instant, value] where a value begins to hold, and [instant, null] where it is unknown from then on.
json points_of(const Signal& signal, const Window& span) {
  json points = json::array();
  for (std::size_t i = 0; i < signal.times_unix_s.size(); ++i) {
    if (signal.held_until(i) <= span.open_unix_s || signal.times_unix_s[i] >= span.close_unix_s) continue;
    points.push_back({signal.times_unix_s[i], signal.values[i]});
    const double until = signal.held_until(i);
    if (i + 1 == signal.times_unix_s.size() || until < signal.times_unix_s[i + 1])
      points.push_back({until, nullptr});
  }
  return points;
}

json digest_of(const std::string& file) {
  if (file.empty()) return nullptr;
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  return xxh3_hex({bytes_of(bytes)});
}

json describe_source(const Signal& signal, const SignalConfig& config, const Window& span) {
  return {{"source", config.is_live() ? config.provider : config.file},
          {"live", config.is_live()},
          {"digest", config.is_live() ? json(nullptr) : digest_of(config.file)},
          {"region", signal.region.empty() ? config.region : signal.region},
          {"unit", signal.unit},
          {"step_s", signal.step_s},
          {"points", points_of(signal, span)}};
}

}  // namespace

json describe_gate(const Config& config, const GateSignals& signals, const GateThresholds& thresholds,
                   const std::vector<Window>& windows, const Window& span) {
  const auto beside = [&](const Signal* signal, const SignalConfig& source) {
    return signal != nullptr ? describe_source(*signal, source, span) : json(nullptr);
  };
  json spans = json::array();
  for (const Window& window : windows) spans.push_back({window.open_unix_s, window.close_unix_s});
  json description = describe_source(*signals.gate, config.signal, span);
  description["file"] = config.signal.file;
  description["windows"] = spans;
  description["above"] = thresholds.above;
  description["open_below"] = thresholds.open_below;
  description["close_above"] = thresholds.close_above;
  description["average"] = beside(signals.average, config.average);
  description["average_below"] = config.gate.average_below ? json(*config.gate.average_below) : json(nullptr);
  description["emissions"] = beside(signals.emissions, config.emissions);
  description["excess"] = beside(signals.excess, config.excess);
  return description;
}

}  // namespace spillway
