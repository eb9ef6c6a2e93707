// The hub's look at the members' deltas: which are refused, and what is logged of a round. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "comm/protocol.hpp"

namespace spillway {

inline constexpr std::size_t kNormsKept = 32;   // merged deltas behind the running median
inline constexpr std::size_t kNormsNeeded = 5;  // fewer have no meaningful median: nothing is refused by norm

// norm / sqrt(blocks). A delta of n steps has a norm between √n (steps without common direction) and n (all in one
// direction) times that of one step; the root makes short rounds comparable with long ones.
double step_norm(double norm, std::int64_t blocks);

// Why a delta must not be merged: not finite, or its step_norm() above `limit` times the median of `merged` (limit 0: no
// limit). Nothing where it may.
std::optional<std::string> delta_fault(const DeltaReport& delta, std::int64_t blocks,
                                       const std::deque<double>& merged, double limit);

struct DeltaSummary {
  std::string text;        // "delta norms iowa 3.2, texas 2.9; cosines iowa·texas 0.41"
  nlohmann::json sites;    // name → {"norm", "tensor_norms"}
  nlohmann::json cosines;  // "iowa·texas" → number
};
// Of the members that have trained. Cosines are estimates (optim/delta.hpp).
DeltaSummary summarize_deltas(const std::map<std::string, Ready>& ready);

}  // namespace spillway
