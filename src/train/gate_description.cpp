#include "train/gate_description.hpp"

namespace spillway {

using nlohmann::json;

json describe_gate(const Config& config, const GateSignals& signals, const GateThresholds& thresholds,
                   const std::vector<Window>& windows,
                   const std::function<json(const Signal&, const SignalConfig&)>& describe) {
  const auto beside = [&](const Signal* signal, const SignalConfig& source) {
    return signal != nullptr ? describe(*signal, source) : json(nullptr);
  };
  json spans = json::array();
  for (const Window& window : windows) spans.push_back({window.open_unix_s, window.close_unix_s});
  json description = describe(*signals.gate, config.signal);
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
