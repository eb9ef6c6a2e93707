// The page of a run, for commands that end with one.
#pragma once

#include <string>

namespace spillway::cli {

// Writes report.html into the run's folder and returns its path. Throws Error.
std::string write_page(const std::string& folder);

}  // namespace spillway::cli
