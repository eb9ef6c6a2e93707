// The folder of one site's checkpoints: names, the newest valid one, how many are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "io/checkpoint.hpp"

namespace spillway {

// Which checkpoints of a folder stay: the newest `last` (at least one), and those whose number is a multiple of `every`
// (0: no others).
struct Retention {
  int last = 3;
  int every = 0;
};

class CheckpointFolder {
 public:
  // Creates the folder and locks it against a second run. Throws Error(io) where another process holds it.
  explicit CheckpointFolder(std::filesystem::path folder);
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;
  ~CheckpointFolder();

  const std::filesystem::path& path() const { return folder_; }
  // "checkpoint_00000123.h5", and the number in such a name (−1 for other files).
  static std::string file_name(std::int64_t number);
  static std::int64_t number_of(const std::filesystem::path& file);
  // checkpoint_00000123.h5 for the 123rd checkpoint of this folder. Throws Error(io) where the folder was removed; where
  // it was made anew it is locked again.
  std::filesystem::path next_file();
  // Removes parts that no checkpoint has: of a save that failed or was killed. Not while one is in progress.
  void remove_orphans() const;
  // Points `latest` at a file that is complete and removes the checkpoints that `kept` does not name. `file` stays.
  void completed(const std::filesystem::path& file, const Retention& kept);

  // The newest checkpoint that can be read and verified, and of which `check` does not throw Error; says which ones are
  // damaged on the way. Nothing in an empty folder. Throws Error(bad_data) where there are checkpoints but none is valid.
  std::optional<CheckpointReader> newest_valid(
      const std::function<void(const CheckpointReader&)>& check = {}) const;

 private:
  void lock();
  void hold_lock();

  std::filesystem::path folder_;
  int lock_ = -1;
};

// Throws Error(io) where the disk of this file's folder has fewer bytes free: a run learns of a full disk while all that
// it has is still whole.
void require_free_space(const std::filesystem::path& file, std::int64_t needed_bytes);

// The checkpoints of a folder by name, newest first, without looking inside. None where there is no such folder.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

// The newest checkpoint of a folder by name, without looking inside; for reading while a run writes.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& folder);

}  // namespace spillway
