// Processes killed while they save. SPILLWAY_KILLS sets how many (the full proof: 1000).
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/error.hpp"
#include "io/checkpoint_folder.hpp"
#include "tests/unit/checkpoint_parts.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

// Saves one checkpoint after the other, counting on from the newest valid one, and tells `acknowledge` each step that is
// durable. Every second one is in parts where `parts` says so. Never returns.
[[noreturn]] void save_forever(const std::filesystem::path& path, bool parts, int acknowledge) {
  try {
    CheckpointFolder folder(path);
    const auto newest = folder.newest_valid();
    auto step = newest ? std::get<std::int64_t>(newest->attributes("/progress").at("step")) : 0;
    for (;;) {
      ++step;
      const auto file = folder.next_file();
      if (parts && step % 2 == 0)
        write_sample_parts(file, static_cast<unsigned>(step), 3, step);
      else
        write_sample_state(file, static_cast<unsigned>(step), step);
      folder.completed(file, {2, 0});
      if (write(acknowledge, &step, sizeof step) != sizeof step) _exit(1);
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    _exit(2);
  }
}

// The last step that the killed process had acknowledged; −1: none.
std::int64_t last_acknowledged(int descriptor) {
  std::int64_t step = -1, next = 0;
  while (read(descriptor, &next, sizeof next) == sizeof next) step = next;
  return step;
}

}  // namespace

TEST_CASE("a process killed at any moment of saving leaves a valid checkpoint, at most one save old") {
  const char* text = std::getenv("SPILLWAY_KILLS");
  const int kills = text != nullptr ? std::atoi(text) : 40;
  const unsigned seed = 9;
  const bool parts = GENERATE(false, true);
  INFO("seed " << seed << ", in parts " << parts);
  std::mt19937 random(seed);
  const TemporaryFolder temporary;
  std::int64_t durable = 0;  // the newest step that must be there
  int in_the_middle = 0;
  for (int round = 0; round < kills; ++round) {
    INFO("kill " << round);
    int pipe_ends[2];
    REQUIRE(pipe(pipe_ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      close(pipe_ends[0]);
      save_forever(temporary.path(), parts, pipe_ends[1]);
    }
    close(pipe_ends[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    REQUIRE(kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    durable = std::max(durable, last_acknowledged(pipe_ends[0]));
    close(pipe_ends[0]);
    for (const auto& entry : std::filesystem::directory_iterator(temporary.path()))
      in_the_middle += entry.path().extension() == ".tmp";

    // Not a single file under a final name may be damaged.
    for (const auto& file : list_checkpoints(temporary.path()))
      REQUIRE_NOTHROW(CheckpointReader(file).verify());
    const CheckpointFolder folder(temporary.path());
    const auto newest = folder.newest_valid();
    if (durable == 0) continue;
    REQUIRE(newest);
    const auto step = std::get<std::int64_t>(newest->attributes("/progress").at("step"));
    // It may be one newer: renamed, not yet acknowledged.
    CHECK(step >= durable);
    CHECK(step <= durable + 1);
    const TrainingState state = read_training_state(*newest, sample_setup());
    CHECK(state.parameters == sample_state(sample_setup(), static_cast<unsigned>(step)).parameters);
    durable = step;
  }
  CHECK(durable > 0);
  CHECK(in_the_middle > 0);
}
