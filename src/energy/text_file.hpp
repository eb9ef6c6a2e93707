// Text files as they are downloaded: plain, gzip or zip.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

struct TextFile {
  std::string name;    // for messages; of a zip member: "FILE: MEMBER"
  std::string text;    // unpacked, without a byte order mark
  std::string packed;  // "", "gzip" or "zip"
};

inline constexpr std::size_t kTextLimitBytes = std::size_t{512} << 20;

// Reads the file, unpacked as its first bytes say. A zip must hold one file. Throws Error(bad_data) where there is no such
// file, it is empty, not text, damaged, or larger than the limit when unpacked.
TextFile load_text(const std::filesystem::path& file, std::size_t limit_bytes = kTextLimitBytes);

// A piece of a hostile file, fit for a message: at most 60 bytes, control characters and broken bytes as '?'.
std::string shown(std::string_view text);
// The first 20 of such names, and how many there are where that is not all.
std::string listed(const std::vector<std::string>& names);

}  // namespace spillway
