// A temporary directory that belongs to a living process, and can be told from one left behind by kill -9.
#pragma once

#include <filesystem>

#include "comm/descriptor.hpp"

namespace spillway {

// Where such directories are made: $TMPDIR, or /tmp where that is longer than UNIX socket names below it allow.
std::filesystem::path session_base();

// Created under session_base() as spillway-session-XXXXXX and locked; removed with all it holds by the destructor. The lock
// ends with the process, however it ends.
class SessionDirectory {
 public:
  // Throws Error(io) naming the base where nothing can be created.
  SessionDirectory();
  ~SessionDirectory();
  SessionDirectory(const SessionDirectory&) = delete;
  SessionDirectory& operator=(const SessionDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Removes those of this user whose process has ended. Returns how many.
  static int sweep();

 private:
  std::filesystem::path path_;
  Descriptor lock_;
};

}  // namespace spillway
