#include "core/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/error.hpp"

namespace spillway {
namespace {

// Closes and, unless the rename has happened, removes the temporary file.
struct Temporary {
  std::string path;
  int descriptor = -1;
  bool renamed = false;
  ~Temporary() {
    if (descriptor >= 0) close(descriptor);
    if (!renamed) unlink(path.c_str());
  }
};

bool write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(ExitCode::io, "{}: cannot be opened: {}", folder.string(), std::strerror(errno));
  const int failed = fsync(descriptor);
  close(descriptor);
  if (failed != 0) fail(ExitCode::io, "{}: fsync: {}", folder.string(), std::strerror(errno));
}

}  // namespace

void write_file_atomically(const std::filesystem::path& file,
                           std::span<const std::span<const std::byte>> parts) {
  Temporary temporary;
  temporary.path = file.string() + ".tmp" + std::to_string(getpid());
  temporary.descriptor = open(temporary.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (temporary.descriptor < 0)
    fail(ExitCode::io, "{}: cannot be written: {}", file.string(), std::strerror(errno));
  for (const auto part : parts)
    if (!write_all(temporary.descriptor, part))
      fail(ExitCode::io, "{}: cannot be written: {}", file.string(), std::strerror(errno));
  if (fsync(temporary.descriptor) != 0 || std::rename(temporary.path.c_str(), file.c_str()) != 0)
    fail(ExitCode::io, "{}: cannot be written: {}", file.string(), std::strerror(errno));
  temporary.renamed = true;
  sync_folder(file.parent_path());
}

}  // namespace spillway
