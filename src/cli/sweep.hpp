// spillway simulate --sweep: thresholds, hysteresis and minimum lengths against each other.
#pragma once

#include <string>
#include <vector>

#include "cli/scenario.hpp"

namespace spillway::cli {

// Simulates every combination of the values in `sweeps` ("open-below=50,100", "hysteresis=0,20", "min-length=0,30m") and
// prints them as `format` (table, csv, json) says, marking those that no other beats in both time and emissions. plot: an
// SVG file with a point for each; empty: none. What is not swept is as configured. Changes the scenario's gates.
void run_sweep(Scenario& scenario, Policy policy, const std::vector<std::string>& sweeps,
               const std::string& format, const std::string& plot);

}  // namespace spillway::cli
