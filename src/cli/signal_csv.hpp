// Signals in the canonical layout.
#pragma once

#include <string>

#include "energy/signal.hpp"

namespace spillway::cli {

// The study's layout: point_time and the region's column, with the unit where it is not g/kWh. Samples that hold longer
// than a step are repeated, so that the file has the same gaps.
std::string canonical_csv(const Signal& signal);

}  // namespace spillway::cli
