// A simulated run as the page of a report.
#pragma once

#include <string>
#include <vector>

#include "cli/scenario.hpp"

namespace spillway::cli {

// The page that `spillway report` makes of a real run, without what a simulation does not have: losses, rounds, checkpoints.
std::string simulate_page(const Scenario& scenario, Policy policy, const RunOutcome& outcome,
                          const std::vector<NamedOutcome>& baselines);

}  // namespace spillway::cli
