// The hub's journal: one JSON object per line, each with a checksum, appended and fsynced. What it holds has happened.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace spillway {

class Journal {
 public:
  // Opens or creates the file and locks it against a second hub. A torn last line, which a crash while writing leaves,
  // is cut off with a warning; damage before it is Error(bad_data) naming the line. Throws Error(io) otherwise.
  explicit Journal(std::filesystem::path file);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  const std::vector<nlohmann::json>& entries() const { return entries_; }  // those found when it was opened
  // Returns when the entry is on disk. Throws Error(io).
  void append(const nlohmann::json& entry);

  // The entries of a journal, without opening it for writing; for audits. A torn last line is left out.
  static std::vector<nlohmann::json> read(const std::filesystem::path& file);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
  std::vector<nlohmann::json> entries_;
};

}  // namespace spillway
