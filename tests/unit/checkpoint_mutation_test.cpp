// Damaged files through everything that reads checkpoints. SPILLWAY_MUTATIONS sets how many (the full proof: 2000).
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "core/error.hpp"
#include "tests/unit/checkpoint_samples.hpp"
#include "train/checkpoint_check.hpp"
#include "train/checkpoint_description.hpp"
#include "train/checkpoint_difference.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

int count_from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoi(text) : otherwise;
}

std::size_t position(std::mt19937& random, std::size_t size) { return random() % size; }

// One of: truncated, bits flipped, a page zeroed, bytes overwritten at random, a piece copied over another, a size field
// made huge, the file extended.
std::string mutate(std::string bytes, std::mt19937& random) {
  const std::size_t at = position(random, bytes.size());
  switch (random() % 7) {
    case 0:
      return bytes.substr(0, at);
    case 1:
      for (std::uint32_t i = 0, flips = 1 + random() % 8; i < flips; ++i) {
        const std::size_t where = position(random, bytes.size());
        bytes[where] = static_cast<char>(bytes[where] ^ (1 << (random() % 8)));
      }
      return bytes;
    case 2: {
      const std::size_t page = at / 4096 * 4096;
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(page),
                  std::min<std::size_t>(4096, bytes.size() - page), 0);
      return bytes;
    }
    case 3:
      for (std::size_t i = at; i < std::min(at + 1 + random() % 64, bytes.size()); ++i)
        bytes[i] = static_cast<char>(random());
      return bytes;
    case 4: {
      const std::size_t length = std::min<std::size_t>(bytes.size() - at, 1 + random() % 2048);
      const std::string piece = bytes.substr(position(random, bytes.size() - length + 1), length);
      return bytes.replace(at, length, piece);
    }
    case 5: {
      const std::size_t where = at / 8 * 8;
      for (std::size_t i = where; i < std::min(where + 8, bytes.size()); ++i)
        bytes[i] = static_cast<char>(i + 1 == where + 8 ? 0x0f : 0xff);
      return bytes;
    }
    default:
      return bytes + std::string(1 + random() % 10000, static_cast<char>(random()));
  }
}

// Every reader there is. Throws Error where the file is refused.
void read_everything(const std::filesystem::path& file, const std::filesystem::path& original) {
  const CheckpointReader reader(file);
  describe_checkpoint(reader, {true, true, true});
  require_complete(reader);
  const CheckpointReader whole(original);
  compare_checkpoints(whole, reader);
  reader.verify();
  read_training_state(reader, sample_setup());
}

// In a process of its own, with bounded memory and time. The exit code: 0 accepted, 1 refused in good order, 2 accepted with
// other content; 128 + signal for a crash.
int judge(const std::filesystem::path& file, const std::filesystem::path& original,
          const std::string& digest) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit memory = {rlim_t{2} << 30, rlim_t{2} << 30};
    if (!kSanitized) setrlimit(RLIMIT_AS, &memory);
    alarm(20);
    for (const int crash : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE}) signal(crash, SIG_DFL);  // not Catch's
    int verdict = 3;
    try {
      read_everything(file, original);
      verdict = CheckpointReader(file).digest() == digest ? 0 : 2;
    } catch (const Error& error) {
      const bool in_order = error.code() == ExitCode::bad_data && !contains(error.what(), "\n");
      verdict = in_order ? 1 : 4;
    } catch (const std::exception&) {
      verdict = 5;
    }
    _exit(verdict);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a mutated checkpoint is refused in good order or holds what was written") {
  const int mutations = count_from_environment("SPILLWAY_MUTATIONS", 150);
  const unsigned seed = 20260111;
  const TemporaryFolder folder;
  const auto original = folder.path() / "original.h5", file = folder.path() / "mutated.h5";
  const std::string digest = write_sample_state(original);
  const std::string whole = read_bytes(original);
  REQUIRE(judge(original, original, digest) == 0);
  std::mt19937 random(seed);
  int refused = 0, accepted = 0;
  for (int i = 0; i < mutations; ++i) {
    write_bytes(file, mutate(whole, random));
    INFO("seed " << seed << ", mutation " << i);
    const int verdict = judge(file, original, digest);
    CHECK((verdict == 0 || verdict == 1));
    refused += verdict == 1;
    accepted += verdict == 0;
    if (verdict > 1)
      if (const char* keep = std::getenv("SPILLWAY_KEEP_MUTATIONS"))
        std::filesystem::copy_file(file, std::filesystem::path(keep) / fmt::format("{}.h5", i),
                                   std::filesystem::copy_options::overwrite_existing);
  }
  CHECK(refused > mutations / 2);
  std::cout << fmt::format("mutated checkpoints: {} refused, {} whole where it counts\n", refused, accepted);
}
