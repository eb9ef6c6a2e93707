#include "core/sealed_line.hpp"

#include "core/hash.hpp"

namespace spillway {

std::string sealed_line(std::string_view text) {
  const std::string copy(text);
  return xxh3_hex({bytes_of(copy)}) + " " + copy + "\n";
}

std::optional<std::string> unsealed(std::string_view line) {
  constexpr std::size_t digits = 32;
  if (line.size() <= digits + 1 || line[digits] != ' ') return std::nullopt;
  std::string text(line.substr(digits + 1));
  if (xxh3_hex({bytes_of(text)}) != line.substr(0, digits)) return std::nullopt;
  return text;
}

}  // namespace spillway
