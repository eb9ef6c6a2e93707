// The hub's live status page: one HTML document with SVG, which reloads itself; no scripts, nothing from elsewhere.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <string>

namespace spillway {

// status: Coordinator::snapshot(); rounds: as Coordinator records them, newest last.
std::string hub_page(const nlohmann::json& status, const std::deque<nlohmann::json>& rounds);

}  // namespace spillway
