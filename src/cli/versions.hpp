// The versions that a result depends on, for reports.
#pragma once

#include <nlohmann/json.hpp>

namespace spillway::cli {

// Program and libraries by name, as built.
nlohmann::json versions();

}  // namespace spillway::cli
