#include "io/checkpoint_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr const char* kPattern = "checkpoint_%8lld.h5";

// The checkpoint that a file is a part of; nothing for other files.
std::optional<std::filesystem::path> master_of(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const auto dot = name.find(".part");
  if (dot == std::string::npos || file.extension() != ".h5") return std::nullopt;
  const auto master = file.parent_path() / (name.substr(0, dot) + ".h5");
  return CheckpointFolder::number_of(master) >= 0 ? std::optional(master) : std::nullopt;
}

}  // namespace

std::string CheckpointFolder::file_name(std::int64_t number) {
  return fmt::format("checkpoint_{:08}.h5", number);
}

std::int64_t CheckpointFolder::number_of(const std::filesystem::path& file) {
  long long number = -1;
  const std::string name = file.filename().string();
  return std::sscanf(name.c_str(), kPattern, &number) == 1 && name == file_name(number) ? number : -1;
}

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (CheckpointFolder::number_of(entry.path()) >= 0) files.push_back(entry.path());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) {
    return CheckpointFolder::number_of(a) > CheckpointFolder::number_of(b);
  });
  return files;
}

CheckpointFolder::CheckpointFolder(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) fail(ExitCode::io, "{}: cannot be created: {}", folder_.string(), error.message());
  lock();
  // What a killed run left half-written.
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
    if (entry.path().extension() == ".tmp") std::filesystem::remove(entry.path(), error);
  remove_orphans();
}

void CheckpointFolder::remove_orphans() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
    if (const auto master = master_of(entry.path()); master && !std::filesystem::exists(*master, error))
      std::filesystem::remove(entry.path(), error);
}

void CheckpointFolder::lock() {
  const std::string lock_file = (folder_ / ".lock").string();
  lock_ = open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) fail(ExitCode::io, "{}: cannot be opened: {}", lock_file, std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    lock_ = -1;
    fail(ExitCode::io, "{}: another run writes its checkpoints here; wait for it, or choose another run.dir",
         folder_.string());
  }
}

// A folder that was removed took the lock with it.
void CheckpointFolder::hold_lock() {
  struct stat held = {}, named = {};
  if (lock_ >= 0 && fstat(lock_, &held) == 0 && stat((folder_ / ".lock").c_str(), &named) == 0 &&
      held.st_ino == named.st_ino && held.st_dev == named.st_dev)
    return;
  if (lock_ >= 0) close(lock_);
  lock_ = -1;
  std::error_code error;
  if (!std::filesystem::is_directory(folder_, error))
    fail(ExitCode::io, "{}: this folder was removed under the run: make it again", folder_.string());
  lock();
}

CheckpointFolder::~CheckpointFolder() {
  if (lock_ >= 0) close(lock_);
}

std::filesystem::path CheckpointFolder::next_file() {
  hold_lock();
  const auto files = list_checkpoints(folder_);
  return folder_ / file_name(files.empty() ? 1 : number_of(files.front()) + 1);
}

void CheckpointFolder::completed(const std::filesystem::path& file, const Retention& kept) {
  // A new link renamed over the old one: there is always one.
  const auto link = folder_ / "latest", fresh = folder_ / "latest.tmp";
  std::error_code error;
  std::filesystem::remove(fresh, error);
  std::filesystem::create_symlink(file.filename(), fresh, error);
  if (!error) std::filesystem::rename(fresh, link, error);
  if (error) log_warning("{}: cannot be updated: {}", link.string(), error.message());
  const auto files = list_checkpoints(folder_);
  for (std::size_t i = static_cast<std::size_t>(std::max(kept.last, 1)); i < files.size(); ++i)
    if (files[i] != file && (kept.every <= 0 || number_of(files[i]) % kept.every != 0))
      std::filesystem::remove(files[i], error);
  remove_orphans();
}

std::optional<CheckpointReader> CheckpointFolder::newest_valid(
    const std::function<void(const CheckpointReader&)>& check) const {
  const auto files = list_checkpoints(folder_);
  for (const auto& file : files) {
    try {
      CheckpointReader reader(file);
      reader.verify();
      if (check) check(reader);
      return reader;
    } catch (const Error& error) {
      log_warning("{}; trying the one before it", error.what());
    }
  }
  if (files.empty()) return std::nullopt;
  fail(ExitCode::bad_data,
       "{}: none of its {} checkpoints is valid; start anew with another run.dir, or restore one",
       folder_.string(), files.size());
}

void require_free_space(const std::filesystem::path& file, std::int64_t needed_bytes) {
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  struct statvfs disk = {};
  if (statvfs(folder.c_str(), &disk) != 0)
    fail(ExitCode::io, "{}: {}", folder.string(), std::strerror(errno));
  const double free_bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  if (free_bytes < static_cast<double>(needed_bytes))
    fail(ExitCode::io,
         "{}: needs {:.1f} MiB, but its disk has {:.1f} MiB free: free some, or choose another run.dir",
         file.string(), static_cast<double>(needed_bytes) / (1 << 20), free_bytes / (1 << 20));
}

std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& folder) {
  const auto files = list_checkpoints(folder);
  if (files.empty()) return std::nullopt;
  return files.front();
}

}  // namespace spillway
