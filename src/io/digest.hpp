// The digest of a checkpoint: over the paths and checksums of all its datasets, in order of their paths.
#pragma once

#include <map>
#include <string>

#include "core/hash.hpp"

namespace spillway {

inline std::string checkpoint_digest(const std::map<std::string, std::string>& checksums) {
  std::string listing;
  for (const auto& [path, checksum] : checksums) listing += path + " " + checksum + "\n";
  return xxh3_hex({bytes_of(listing)});
}

}  // namespace spillway
