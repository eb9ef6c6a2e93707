// Lines of logs that a crash may tear: "<32 hex digits of XXH3-128> <text>".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spillway {

// With its newline. text: without one.
std::string sealed_line(std::string_view text);
// The text of a line without its newline; nothing where the checksum does not fit.
std::optional<std::string> unsealed(std::string_view line);

}  // namespace spillway
