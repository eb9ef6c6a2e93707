#include "io/digest.hpp"

#include <fmt/format.h>

#include <bit>

#include "core/hash.hpp"

namespace spillway {
namespace {

// Exact, and different for values of different types.
std::string spelling(const Attribute& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("int64 {}", *integer);
  if (const auto* real = std::get_if<double>(&value))
    return fmt::format("float64 {:016x}", std::bit_cast<std::uint64_t>(*real));
  const auto& text = std::get<std::string>(value);
  return fmt::format("string {} {}", text.size(), text);
}

}  // namespace

std::string datasets_digest(const std::map<std::string, std::string>& checksums) {
  std::string listing;
  for (const auto& [path, checksum] : checksums) listing += path + " " + checksum + "\n";
  return xxh3_hex({bytes_of(listing)});
}

std::string attributes_digest(const std::map<std::string, Attributes>& groups) {
  std::string listing;
  for (const auto& [group, attributes] : groups)
    for (const auto& [name, value] : attributes)
      if (group != "/" || (name != "digest" && name != "attributes_digest"))
        listing += fmt::format("{} {} {}\n", group, name, spelling(value));
  return xxh3_hex({bytes_of(listing)});
}

}  // namespace spillway
