#include "train/journal.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/sealed_line.hpp"

namespace spillway {
namespace {

std::optional<nlohmann::json> parse_line(const std::string& line) {
  const auto text = unsealed(line);
  if (!text) return std::nullopt;
  auto entry = nlohmann::json::parse(*text, nullptr, false);
  if (entry.is_discarded()) return std::nullopt;
  return entry;
}

struct Contents {
  std::vector<nlohmann::json> entries;
  std::size_t good_bytes = 0;  // what follows is a torn line
  bool torn = false;
};

Contents read_contents(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail(ExitCode::io, "{}: cannot be read: {}", file.string(), std::strerror(errno));
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  Contents contents;
  for (std::size_t number = 1; contents.good_bytes < text.size(); ++number) {
    const std::size_t end = text.find('\n', contents.good_bytes);
    const bool last = end == std::string::npos || end + 1 == text.size();
    const auto entry = end == std::string::npos
                           ? std::nullopt
                           : parse_line(text.substr(contents.good_bytes, end - contents.good_bytes));
    if (!entry && !last)
      fail(ExitCode::bad_data,
           "{}: line {} does not match its checksum: the journal is damaged; restore it from a backup",
           file.string(), number);
    if (!entry) {
      contents.torn = true;
      break;
    }
    contents.entries.push_back(*entry);
    contents.good_bytes = end + 1;
  }
  return contents;
}

// A new file's name must survive a crash as its lines do.
void sync_folder(const std::filesystem::path& file) {
  const std::string folder = file.parent_path().empty() ? "." : file.parent_path().string();
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) close(descriptor);
  if (!synced) fail(ExitCode::io, "{}: cannot be written to disk: {}", folder, std::strerror(error));
}

}  // namespace

Journal::Journal(std::filesystem::path file) : file_(std::move(file)) {
  descriptor_ = open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail(ExitCode::io, "{}: cannot be opened: {}", file_.string(), std::strerror(errno));
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    close(descriptor_);
    fail(ExitCode::io, "{}: another hub uses this journal; stop it first, or choose another run.dir",
         file_.string());
  }
  try {
    Contents contents = read_contents(file_);
    if (contents.torn) {
      log_warning("{}: the last line is incomplete, as after a crash: it is cut off", file_.string());
      if (ftruncate(descriptor_, static_cast<off_t>(contents.good_bytes)) != 0)
        fail(ExitCode::io, "{}: cannot be truncated: {}", file_.string(), std::strerror(errno));
    }
    entries_ = std::move(contents.entries);
    sync_folder(file_);
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

Journal::~Journal() { close(descriptor_); }

void Journal::append(const nlohmann::json& entry) {
  const std::string line = sealed_line(entry.dump());
  // A crash in between leaves a torn end, which the next start cuts off.
  for (std::size_t written = 0; written < line.size();) {
    const ssize_t count = write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(ExitCode::io, "{}: cannot be written: {}", file_.string(), std::strerror(errno));
    written += static_cast<std::size_t>(count);
  }
  if (fsync(descriptor_) != 0)
    fail(ExitCode::io, "{}: cannot be written to disk: {}", file_.string(), std::strerror(errno));
}

std::vector<nlohmann::json> Journal::read(const std::filesystem::path& file) {
  return read_contents(file).entries;
}

}  // namespace spillway
