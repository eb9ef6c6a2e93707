// Disks and folders that fail under a run: it goes on where it can, and says so. Each with checkpoints in one file, and with
// two ranks that write a part each.
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

// Root may write everywhere, unless it gives that up. The user id stays, so that it may read the program wherever it lies.
runs::Arguments without_privileges() {
  if (geteuid() != 0) return {};
  return {"setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"};
}

// A run that would take minutes, with a checkpoint about every 0.1 s; suspended at the end of a test. ranks: 0 without
// mpirun, else each writes a part.
class LongRun {
 public:
  LongRun(int ranks, const std::filesystem::path& run_folder) {
    runs::write_data(folder_.path() / "data");
    auto options =
        runs::command(ranks,
                      runs::Arguments{"train", "--train.steps", "1000000", "--train.checkpoint-every", "0.1s",
                                      "--train.checkpoint-writers", std::to_string(std::max(ranks, 1)),
                                      "--run.dir", run_folder.string()} +
                          runs::small_model(folder_.path() / "data"),
                      log());
    options.arguments = without_privileges() + options.arguments;
    process_.emplace(options);
  }
  // mpirun takes its ranks with it where it may end by itself.
  ~LongRun() {
    if (process_->running()) process_->signal(SIGTERM);
    if (!process_->wait(30)) process_->signal(SIGKILL);
  }
  std::filesystem::path log() const { return folder_.path() / "log"; }
  std::string output() const { return runs::read_file(log()); }
  // Whether the text appeared in the output within a minute.
  bool wait_for(const std::string& text) {
    for (int i = 0; i < 1200 && process_->running() && !contains(output(), text); ++i) process_->wait(0.05);
    return contains(output(), text);
  }
  int wait() { return process_->wait(60) ? *process_->status() : -1; }
  // Asks it to suspend; the exit status.
  int suspend() {
    process_->signal(SIGUSR1);
    return wait();
  }

 private:
  TemporaryFolder folder_;
  std::optional<Process> process_;
};

void close_folder(const std::filesystem::path& folder) {
  using std::filesystem::perms;
  std::filesystem::permissions(folder, perms::owner_read | perms::owner_exec);
}

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
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  LongRun run(ranks, disk.path() / "run");
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
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  LongRun run(ranks, disk.path() / "run");
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
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const TemporaryFolder folder;
  const auto site = folder.path() / "run" / "local";
  LongRun run(ranks, folder.path() / "run");
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
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const TemporaryFolder folder;
  LongRun run(ranks, folder.path() / "run");
  REQUIRE(run.wait_for("step 1/"));
  runs::write_data(folder.path() / "data");
  const auto second = runs::run(ranks,
                                runs::Arguments{"train", "--run.dir", (folder.path() / "run").string()} +
                                    runs::small_model(folder.path() / "data"),
                                folder.path());
  INFO(second.output);
  CHECK(second.status == 74);
  CHECK(contains(second.output, "another run writes its checkpoints here"));
  CHECK(run.suspend() == 75);
}

TEST_CASE("a disk that cannot hold one checkpoint is refused before the first step") {
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const SmallDisk disk;
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  disk.fill();
  LongRun run(ranks, disk.path() / "run");
  REQUIRE(run.wait_for("error"));
  INFO(run.output());
  CHECK(contains(run.output(), "its disk has"));
  CHECK_FALSE(contains(run.output(), "step 1/"));
}

TEST_CASE("a folder that may not be written is refused at the start") {
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "run");
  close_folder(folder.path() / "run");
  LongRun run(ranks, folder.path() / "run");
  REQUIRE(run.wait_for("error"));
  CHECK(run.wait() == 74);
  INFO(run.output());
  CHECK(contains(run.output(),
                 (folder.path() / "run" / "local").string() + ": cannot be created: Permission denied"));
  CHECK_FALSE(contains(run.output(), "step 1/"));
}

TEST_CASE("a folder that becomes read-only under a run: it warns, and saves again when it may") {
  const int ranks = GENERATE(0, 2);
  INFO("ranks: " << ranks);
  const TemporaryFolder folder;
  const auto site = folder.path() / "run" / "local";
  LongRun run(ranks, folder.path() / "run");
  REQUIRE(run.wait_for("(periodic), digest"));
  close_folder(site);
  REQUIRE(run.wait_for("CHECKPOINT NOT WRITTEN (periodic)"));
  INFO(run.output());
  CHECK(contains(run.output(), "Permission denied"));
  runs::newest(site).verify();
  std::filesystem::permissions(site, std::filesystem::perms::owner_all);
  CHECK(run.suspend() == 75);
  runs::newest(site).verify();
}
