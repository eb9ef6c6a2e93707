// A window as all commands write it in JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "core/time.hpp"
#include "energy/gate.hpp"

namespace spillway::cli {

// {"start": "2026-06-01T02:20:00Z", "end": …, "start_unix_s": …, "end_unix_s": …, "minutes": …, "part": 1.0}; part: of the
// site's nodes that may run.
inline nlohmann::json window_json(const Window& window) {
  return {{"start", format_utc(window.open_unix_s)}, {"end", format_utc(window.close_unix_s)},
          {"start_unix_s", window.open_unix_s},      {"end_unix_s", window.close_unix_s},
          {"minutes", window.length_s() / 60},       {"part", window.part}};
}

// {"open_below": …, "close_above": …}, or {"open_above": …, "close_below": …}
inline nlohmann::json thresholds_json(const GateThresholds& thresholds) {
  return {{thresholds.above ? "open_above" : "open_below", thresholds.open_below},
          {thresholds.above ? "close_below" : "close_above", thresholds.close_above}};
}

}  // namespace spillway::cli
