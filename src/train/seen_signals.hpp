// What a site with live signals saw of them, from its energy log: nobody can ask for it again later.
#pragma once

#include <optional>
#include <vector>

#include "energy/gate.hpp"
#include "energy/signal.hpp"
#include "train/telemetry.hpp"

namespace spillway {

// Known from the first line of a job to its last: a value holds from its line to the next one. Signals that no line has are
// left out.
struct SeenSignals {
  std::optional<Signal> gate, emissions, average, excess;  // in gate_unit, g/kWh, g/kWh, MW
  std::vector<Window> windows;                             // in which the gate was open
};

SeenSignals seen_signals(const std::vector<TelemetryLine>& log);

}  // namespace spillway
