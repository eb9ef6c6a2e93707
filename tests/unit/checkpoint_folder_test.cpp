#include "io/checkpoint_folder.hpp"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.hpp"
#include "tests/unit/checkpoint_samples.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

// Writes the next checkpoint of the folder.
std::filesystem::path save(CheckpointFolder& folder, unsigned seed, const Retention& kept = {}) {
  const auto file = folder.next_file();
  write_sample_state(file, seed, seed);
  folder.completed(file, kept);
  return file;
}

// A small tmpfs, gone at the end of the test.
class SmallDisk {
 public:
  explicit SmallDisk(const char* options) {
    mounted_ = mount("none", folder_.path().c_str(), "tmpfs", 0, options) == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(folder_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  bool mounted_;
};

// Not root, who may write everywhere, to the end of the scope.
class Unprivileged {
 public:
  Unprivileged() : root_(geteuid() == 0) { so_ = !root_ || seteuid(kNobody) == 0; }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;
  ~Unprivileged() {
    if (root_ && seteuid(0) != 0) std::abort();
  }
  bool is_so() const { return so_; }

 private:
  static constexpr uid_t kNobody = 65534;
  bool root_, so_;
};

}  // namespace

TEST_CASE("a checkpoint folder keeps the newest, and latest points at it") {
  const TemporaryFolder temporary;
  CheckpointFolder folder(temporary.path() / "run" / "texas");
  CHECK_FALSE(folder.newest_valid());
  for (unsigned i = 1; i <= 5; ++i) save(folder, i);
  const auto files = list_checkpoints(temporary.path() / "run" / "texas");
  REQUIRE(files.size() == 3);
  CHECK(files[0].filename() == "checkpoint_00000005.h5");
  CHECK(files[2].filename() == "checkpoint_00000003.h5");
  CHECK(std::filesystem::read_symlink(temporary.path() / "run" / "texas" / "latest") ==
        "checkpoint_00000005.h5");
  CHECK(std::get<std::int64_t>(folder.newest_valid()->attributes("/progress").at("step")) == 5);
}

TEST_CASE("each n-th checkpoint stays besides the newest") {
  const TemporaryFolder temporary;
  CheckpointFolder folder(temporary.path());
  for (unsigned i = 1; i <= 11; ++i) save(folder, i, {2, 4});
  const auto numbers = [&] {
    std::string names;
    for (const auto& file : list_checkpoints(temporary.path()))
      names += file.stem().string().substr(17) + " ";
    return names;
  };
  CHECK(numbers() == "11 10 08 04 ");
  save(folder, 12, {0, 5});  // the one just written stays, whatever is asked for
  CHECK(numbers() == "12 10 ");
  save(folder, 13, {1, 0});
  CHECK(numbers() == "13 ");
}

TEST_CASE("the newest valid checkpoint is taken, and one valid one is never removed for damaged ones") {
  const TemporaryFolder temporary;
  CheckpointFolder folder(temporary.path());
  for (unsigned i = 1; i <= 3; ++i) save(folder, i);
  const auto files = list_checkpoints(temporary.path());
  const std::string whole = read_bytes(files[0]);
  write_bytes(files[0], whole.substr(0, whole.size() / 2));
  std::string damaged = read_bytes(files[1]);
  damaged[damaged.size() / 2] ^= 1;
  write_bytes(files[1], damaged);
  CHECK(folder.newest_valid()->file() == files[2]);
  write_bytes(files[2], "");
  REQUIRE_THROWS_WITH(folder.newest_valid(),
                      temporary.path().string() +
                          ": none of its 3 checkpoints is valid; start anew with another "
                          "run.dir, or restore one");
}

TEST_CASE("two runs cannot write into one folder") {
  const TemporaryFolder temporary;
  {
    const CheckpointFolder first(temporary.path());
    REQUIRE_THROWS_WITH(
        CheckpointFolder(temporary.path()),
        temporary.path().string() +
            ": another run writes its checkpoints here; wait for it, or choose another run.dir");
  }
  const CheckpointFolder second(temporary.path());
}

TEST_CASE("what a killed run left half-written is removed by the next") {
  const TemporaryFolder temporary;
  write_bytes(temporary.path() / "checkpoint_00000001.h5.tmp", "half");
  CheckpointFolder folder(temporary.path());
  CHECK_FALSE(std::filesystem::exists(temporary.path() / "checkpoint_00000001.h5.tmp"));
  CHECK(folder.next_file().filename() == "checkpoint_00000001.h5");
}

TEST_CASE("a folder that cannot be written is an error with its name") {
  const TemporaryFolder temporary;
  write_bytes(temporary.path() / "file", "not a folder");
  REQUIRE_THROWS_WITH(
      CheckpointFolder(temporary.path() / "file" / "texas"),
      (temporary.path() / "file" / "texas").string() + ": cannot be created: Not a directory");
  {
    CheckpointFolder folder(temporary.path() / "gone");
    std::filesystem::remove_all(temporary.path() / "gone");
    REQUIRE_THROWS_WITH(save(folder, 1), (temporary.path() / "gone").string() +
                                             ": this folder was removed under the run: make it again");
    std::filesystem::create_directory(temporary.path() / "gone");
    CHECK_NOTHROW(save(folder, 1));
    CHECK_THROWS_AS(CheckpointFolder(temporary.path() / "gone"), Error);
  }
  std::filesystem::create_directory(temporary.path() / "closed");
  chmod(temporary.path().c_str(), 0755);
  chmod((temporary.path() / "closed").c_str(), 0555);
  const Unprivileged user;
  if (!user.is_so()) {
    WARN("root may write everywhere and cannot be another user here: the check of permissions is skipped");
    return;
  }
  REQUIRE_THROWS_WITH(
      CheckpointFolder(temporary.path() / "closed"),
      (temporary.path() / "closed" / ".lock").string() + ": cannot be opened: Permission denied");
}

TEST_CASE("a full disk is refused before the first byte, and what was there stays") {
  const SmallDisk disk("size=400k");
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  CheckpointFolder folder(disk.path());
  const auto file = folder.next_file();
  try {
    write_sample_state(file);
    FAIL("written");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::io);
    CHECK_THAT(error.what(),
               Catch::Matchers::Matches(
                   ".*checkpoint_00000001.h5: needs 1\\.. MiB, but its disk has 0\\.4 MiB free: free "
                   "some, or choose another run.dir"));
  }
  CHECK(list_checkpoints(disk.path()).empty());
}

TEST_CASE("a disk that fills while a checkpoint is written leaves the older one whole") {
  const SmallDisk disk("size=400k");
  if (!disk.mounted()) {
    WARN("no tmpfs can be mounted here: the full disk is skipped");
    return;
  }
  const auto older = disk.path() / "a.h5", newer = disk.path() / "b.h5";
  const auto write = [](const std::filesystem::path& file, std::size_t count) {
    const std::vector<float> values(count, 1.0f);
    CheckpointWriter writer(file);
    for (int i = 0; i < 4; ++i)
      writer.write(fmt::format("/model/{}", i), {static_cast<std::int64_t>(count)}, std::span(values));
    writer.commit();
  };
  write(older, 1000);
  try {
    write(newer, 100000);
    FAIL("written");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == ExitCode::io);
    CHECK(contains(error.what(), "No space left on device"));
    CHECK_FALSE(contains(error.what(), "\n"));
  }
  CHECK_FALSE(std::filesystem::exists(newer));
  CHECK_FALSE(std::filesystem::exists(newer.string() + ".tmp"));
  CheckpointReader(older).verify();
}
