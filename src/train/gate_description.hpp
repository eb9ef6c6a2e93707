// A site's gate as report documents have it (report/run_sections.cpp draws it), of runs and of simulations.
#pragma once

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

// Each signal with its source, the digest of its file, and its points in `span`: [unix s, value] where a value begins to
// hold, [unix s, null] where it is unknown from then on.
nlohmann::json describe_gate(const Config& config, const GateSignals& signals,
                             const GateThresholds& thresholds, const std::vector<Window>& windows,
                             const Window& span);

}  // namespace spillway
