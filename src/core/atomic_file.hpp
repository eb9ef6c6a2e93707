// Whole files, written so that a reader or a crash sees the old one or the new one, never a part.
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>

namespace spillway {

// Writes the parts, one after the other, to a temporary file in the same folder, fsyncs it, renames it over `file` and
// fsyncs the folder. Throws Error(io) naming the file; the old file is then untouched and the temporary one removed.
void write_file_atomically(const std::filesystem::path& file,
                           std::span<const std::span<const std::byte>> parts);
inline void write_file_atomically(const std::filesystem::path& file,
                                  std::initializer_list<std::span<const std::byte>> parts) {
  write_file_atomically(file, std::span(parts.begin(), parts.size()));
}

}  // namespace spillway
