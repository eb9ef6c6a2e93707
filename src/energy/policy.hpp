// When a site decides to run, given what it can know.
#pragma once

#include <string>
#include <vector>

#include "energy/forecast.hpp"
#include "energy/gate.hpp"

namespace spillway {

enum class Policy {
  reactive,    // opens below the threshold, closes above the same
  hysteresis,  // closes above close-above
  forecast,    // as hysteresis, but opens only where the forecast promises the minimum length
  foresight,   // as hysteresis, but knows which windows last the minimum length: a known file
  oracle,      // as hysteresis, but without delays, grace and losses: a bound
};

// Throws Error(usage) for another name.
Policy parse_policy(const std::string& name);
const char* policy_name(Policy policy);
inline constexpr Policy kPolicies[] = {Policy::reactive, Policy::hysteresis, Policy::forecast,
                                       Policy::foresight, Policy::oracle};

// The windows [opens, signal closes) in which the policy runs the site, without the grace period. The gate is the
// production one. forecast: needed for Policy::forecast; at least `confidence` (0…1) of its values for the minimum length
// must stay below close-above, and where it says nothing it promises nothing.
std::vector<Window> policy_windows(Policy policy, const Signal& signal, const GateThresholds& thresholds,
                                   double min_length_s, const Forecast* forecast, double confidence);

}  // namespace spillway
