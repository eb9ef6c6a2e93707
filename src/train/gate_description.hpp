// A site's gate as report documents have it (report/run_sections.cpp draws it), of runs and of simulations.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// The gate's signal, and those beside it; null where there is none.
struct GateSignals {
  const Signal* gate;
  const Signal* average;
  const Signal* emissions;
  const Signal* excess;
};

// describe: one signal, as an object with its source and points.
nlohmann::json describe_gate(
    const Config& config, const GateSignals& signals, const GateThresholds& thresholds,
    const std::vector<Window>& windows,
    const std::function<nlohmann::json(const Signal&, const SignalConfig&)>& describe);

}  // namespace spillway
