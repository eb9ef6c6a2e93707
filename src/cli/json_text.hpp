// Values of a JSON document as text in tables; "–" for what is not known.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

namespace spillway::cli {

// A number by a format such as "{:.3f}".
inline std::string cell(const nlohmann::json& value, fmt::string_view format) {
  return value.is_number() ? fmt::format(fmt::runtime(format), value.get<double>()) : "–";
}

inline std::string text_of(const nlohmann::json& value) {
  if (value.is_null()) return "–";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace spillway::cli
