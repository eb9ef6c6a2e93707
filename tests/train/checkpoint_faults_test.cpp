// Disks and folders that fail under a run: it goes on where it can, and says so.
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <chrono>
#include <optional>
#include <thread>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"

using namespace spillway;
using runs::operator+;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A run that would take minutes, with a checkpoint about every 0.1 s; suspended at the end of a test.
class LongRun {
 public:
  explicit LongRun(const std::filesystem::path& run_folder) {
    runs::write_data(folder_.path() / "data");
    process_.emplace(
        runs::command(0,
                      runs::Arguments{"train", "--train.steps", "1000000", "--train.checkpoint-every", "0.1s",
                                      "--run.dir", run_folder.string()} +
                          runs::small_model(folder_.path() / "data"),
                      log()));
  }
  ~LongRun() {
    if (process_->running()) process_->signal(SIGKILL);
  }
  std::filesystem::path log() const { return folder_.path() / "log"; }
  std::string output() const { return runs::read_file(log()); }
  // Whether the text appeared in the output within a minute.
  bool wait_for(const std::string& text) {
    for (int i = 0; i < 1200 && process_->running() && !contains(output(), text); ++i) process_->wait(0.05);
    return contains(output(), text);
  }
  // Asks it to suspend; the exit status.
  int suspend() {
    process_->signal(SIGUSR1);
    return process_->wait(60) ? *process_->status() : -1;
  }

 private:
  TemporaryFolder folder_;
  std::optional<Process> process_;
};

class SmallDisk {
 public:
  SmallDisk() { mounted_ = mount("none", folder_.path().c_str(), "tmpfs", 0, "size=16m") == 0; }
  ~SmallDisk() {
    if (mounted_) umount2(folder_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return folder_.path(); }
  void fill() const {
    struct statvfs disk = {};
    REQUIRE(statvfs(folder_.path().c_str(), &disk) == 0);
    std::ofstream(folder_.path() / "filler") << std::string(disk.f_bavail * disk.f_frsize, 'x');
  }

 private:
  TemporaryFolder folder_;
  bool mounted_;
};

}  // namespace

TEST_CASE("a run goes on while its disk is full, keeps its last checkpoint, and saves when there is space") {
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  LongRun run(disk.path() / "run");
  REQUIRE(run.wait_for("(periodic), digest"));
  disk.fill();
  REQUIRE(run.wait_for("CHECKPOINT NOT WRITTEN (periodic)"));
  // The first one may have filled up in the middle of writing; the next is refused before.
  REQUIRE(
      run.wait_for("MiB free: free some, or choose another run.dir; training goes on, the last good one is " +
                   (disk.path() / "run" / "local" / "checkpoint_").string()));
  runs::newest(disk.path() / "run" / "local").verify();
  std::filesystem::remove(disk.path() / "filler");
  CHECK(run.suspend() == 75);
  runs::newest(disk.path() / "run" / "local").verify();
}

TEST_CASE("a checkpoint that cannot be written when suspending is an error") {
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  LongRun run(disk.path() / "run");
  REQUIRE(run.wait_for("(periodic), digest"));
  disk.fill();
  REQUIRE(run.wait_for("CHECKPOINT NOT WRITTEN (periodic)"));
  CHECK(run.suspend() == 74);
  INFO(run.output());
  CHECK(contains(run.output(), "was not written, the work since " +
                                   (disk.path() / "run" / "local" / "checkpoint_").string()));
  runs::newest(disk.path() / "run" / "local").verify();
}

TEST_CASE("a folder removed under a run: it warns, and saves again where the folder is made anew") {
  const TemporaryFolder folder;
  const auto site = folder.path() / "run" / "local";
  LongRun run(folder.path() / "run");
  REQUIRE(run.wait_for("(periodic), digest"));
  std::filesystem::rename(site, folder.path() / "moved");
  REQUIRE(run.wait_for("this folder was removed under the run: make it again; training goes on"));
  std::filesystem::create_directory(site);
  for (int i = 0; i < 200 && list_checkpoints(site).empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const int status = run.suspend();
  INFO(run.output());
  CHECK(status == 75);
  runs::newest(site).verify();
}

TEST_CASE("a second run in one folder is refused while the first goes on") {
  const TemporaryFolder folder;
  LongRun run(folder.path() / "run");
  REQUIRE(run.wait_for("step 1/"));
  runs::write_data(folder.path() / "data");
  const auto second = runs::run(0,
                                runs::Arguments{"train", "--run.dir", (folder.path() / "run").string()} +
                                    runs::small_model(folder.path() / "data"),
                                folder.path());
  INFO(second.output);
  CHECK(second.status == 74);
  CHECK(contains(second.output, "another run writes its checkpoints here"));
  CHECK(run.suspend() == 75);
}

TEST_CASE("a disk that cannot hold one checkpoint is refused before the first step") {
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  disk.fill();
  LongRun run(disk.path() / "run");
  REQUIRE(run.wait_for("error"));
  INFO(run.output());
  CHECK(contains(run.output(), "its disk has"));
  CHECK_FALSE(contains(run.output(), "step 1/"));
}
