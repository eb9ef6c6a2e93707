// Third-party traces, which are not part of the project: found beside the checkout or through SPILLWAY_REAL_TRACES.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

// The path of a real trace; nothing, and a line that says so, where it is absent.
inline std::optional<std::filesystem::path> real_trace(const std::string& name) {
  const char* folder = std::getenv("SPILLWAY_REAL_TRACES");
  const std::filesystem::path path =
      (folder != nullptr ? std::filesystem::path(folder)
                         : std::filesystem::path(SPILLWAY_SOURCE_DIR) / "../shared/traces") /
      name;
  if (std::filesystem::exists(path)) return path;
  std::cout << "skipped: " << path.string() << " is absent (SPILLWAY_REAL_TRACES names the folder)\n";
  return std::nullopt;
}
