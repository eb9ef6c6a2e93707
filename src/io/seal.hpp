// The seal at the end of a checkpoint: HDF5's own tables, checked before HDF5 parses them. The library is not made for
// damaged files: 1.10.8 crashes on some. So a file is handed to it only if its tables are the bytes that were written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace spillway {

// Bytes of a dataset's elements. They have checksums of their own, and the seal leaves them out: checking it is quick on
// files of any size.
struct Extent {
  std::int64_t offset = 0, bytes = 0;
};

// Appends the seal: the extents in order as pairs of int64, XXH3-128 over all bytes of the file outside them and over
// those pairs (32 hex digits), the number of extents (int64), "SPLWSEAL". Integers are little-endian.
// The extents must be disjoint and inside the file. Throws Error(io) naming the file.
void append_seal(const std::filesystem::path& file, std::vector<Extent> extents);

// Throws Error(bad_data) naming the file where the seal is missing or does not match.
void check_seal(const std::filesystem::path& file);

}  // namespace spillway
