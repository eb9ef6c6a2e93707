// The hub's status for Prometheus.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <string>

namespace spillway {

// Prometheus text format 0.0.4. status: Coordinator::snapshot(); rounds: as Coordinator records them, newest last. What a
// member has not reported, or reports as something else than a number, is left out.
std::string hub_metrics(const nlohmann::json& status, const std::deque<nlohmann::json>& rounds);

}  // namespace spillway
