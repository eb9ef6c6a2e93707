#include "comm/session_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

const std::string kPrefix = "spillway-session-";
constexpr std::size_t kLongestBase = 40;  // UNIX socket names end at 107 bytes

Descriptor open_directory(const fs::path& path) {
  return Descriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

bool still_exists(const Descriptor& directory) {
  struct stat status = {};
  return fstat(directory.get(), &status) == 0 && status.st_nlink > 0;
}

bool owned_by_this_user(const Descriptor& directory) {
  struct stat status = {};
  return fstat(directory.get(), &status) == 0 && status.st_uid == geteuid();
}

}  // namespace

fs::path session_base() {
  const char* own = std::getenv("TMPDIR");
  return own != nullptr && own[0] == '/' && std::strlen(own) <= kLongestBase ? own : "/tmp";
}

SessionDirectory::SessionDirectory() {
  // Between its creation and its locking a sweep may take the directory away; then another one is made.
  while (!lock_) {
    std::string name = (session_base() / (kPrefix + "XXXXXX")).string();
    if (mkdtemp(name.data()) == nullptr)
      fail(ExitCode::io, "{}: no directory can be created: {}", session_base().string(),
           std::strerror(errno));
    Descriptor directory = open_directory(name);
    if (directory && flock(directory.get(), LOCK_EX | LOCK_NB) == 0 && still_exists(directory)) {
      path_ = name;
      lock_ = std::move(directory);
    }
  }
}

SessionDirectory::~SessionDirectory() {
  std::error_code ignored;  // what cannot be removed now is swept by the next start
  fs::remove_all(path_, ignored);
}

int SessionDirectory::sweep() {
  int removed = 0;
  std::error_code error;
  for (fs::directory_iterator entry(session_base(), error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename().string().rfind(kPrefix, 0) != 0) continue;
    const Descriptor directory = open_directory(entry->path());
    if (!directory || !owned_by_this_user(directory) || flock(directory.get(), LOCK_EX | LOCK_NB) != 0)
      continue;
    std::error_code ignored;
    fs::remove_all(entry->path(), ignored);
    ++removed;
  }
  return removed;
}

}  // namespace spillway
