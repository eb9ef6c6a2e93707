// The hub's journal: what survives a crash, what is refused, and the audit of what it says.
#include "train/journal.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"
#include "tests/temporary_folder.hpp"
#include "train/audit.hpp"
#include "train/run_history.hpp"

using namespace spillway;
using nlohmann::json;

namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

template <class Call>
std::string message_of(Call&& call, ExitCode code) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "no error";
}

const std::vector<json> three = {{{"a", 1}}, {{"b", "two"}}, {{"c", {1, 2, 3}}}};

void write_three(const std::filesystem::path& file) {
  Journal journal(file);
  for (const auto& entry : three) journal.append(entry);
}

// A journal of a run of 100 blocks with two rounds.
std::vector<json> sound_run() {
  StartEntry start{"digest", 100, 64, {0, 1000, 480}};
  CommitEntry first{1, 1, {1, 30, "aa"}, "adopt", {{"iowa", {30 * 64, {{0, 30}}}}}, 10};
  CommitEntry second{2,
                     4,
                     {2, 60, "bb"},
                     "nesterov",
                     {{"iowa", {10 * 64, {{30, 40}}}}, {"texas", {20 * 64, {{40, 50}, {60, 70}}}}},
                     20};
  return {to_json(start), to_json(first), to_json(second)};
}

}  // namespace

TEST_CASE("a journal gives back what was appended") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "journal.jsonl";
  write_three(file);
  CHECK(Journal::read(file) == three);
  Journal again(file);
  CHECK(again.entries() == three);
  again.append({{"d", nullptr}});
  CHECK(Journal::read(file).size() == 4);
}

TEST_CASE("a torn last line of a journal is cut off, wherever the write was cut") {
  const Quiet quiet;
  const TemporaryFolder folder;
  const auto file = folder.path() / "journal.jsonl";
  write_three(file);
  const std::string whole = read_text(file);
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t size = last; size < whole.size(); ++size) {
    INFO("cut after " << size << " of " << whole.size() << " bytes");
    write_text(file, whole.substr(0, size));
    {
      Journal journal(file);
      REQUIRE(journal.entries() == std::vector<json>(three.begin(), three.end() - 1));
      journal.append({{"after", size}});
    }
    const auto entries = Journal::read(file);
    REQUIRE(entries.size() == 3);
    REQUIRE(entries.back() == json{{"after", size}});
  }
}

TEST_CASE("damage inside a journal is an error that names the line") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "journal.jsonl";
  write_three(file);
  const std::string whole = read_text(file);
  const std::size_t end_of_second = whole.find('\n', whole.find('\n') + 1);
  for (std::size_t at = 0; at < end_of_second; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write_text(file, damaged);
    const bool first_line = at <= whole.find('\n');
    INFO("byte " << at);
    const std::string message = message_of([&] { Journal journal(file); }, ExitCode::bad_data);
    REQUIRE(message == file.string() + ": line " + (first_line ? "1" : "2") +
                           " does not match its checksum: the journal is damaged; restore it from a backup");
    REQUIRE(read_text(file) == damaged);  // left as it is
  }
}

TEST_CASE("a journal belongs to one hub at a time, and no crash leaves it locked") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "journal.jsonl";
  {
    Journal journal(file);
    CHECK(message_of([&] { Journal second(file); }, ExitCode::io) ==
          file.string() + ": another hub uses this journal; stop it first, or choose another run.dir");
  }
  const pid_t child = fork();
  if (child == 0) {
    Journal journal(file);
    journal.append({{"by", "child"}});
    _exit(0);  // without a destructor, as kill -9
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  Journal journal(file);
  CHECK(journal.entries() == std::vector<json>{{{"by", "child"}}});
}

TEST_CASE("a journal that cannot be opened or read is an I/O error") {
  const TemporaryFolder folder;
  const auto missing = folder.path() / "missing" / "journal.jsonl";
  CHECK(message_of([&] { Journal journal(missing); }, ExitCode::io) ==
        missing.string() + ": cannot be opened: No such file or directory");
  CHECK(message_of([&] { Journal::read(missing); }, ExitCode::io) ==
        missing.string() + ": cannot be read: No such file or directory");
}

TEST_CASE("the audit of a sound journal") {
  const AuditReport report = audit_entries(sound_run());
  CHECK(report.violations.empty());
  CHECK(report.merged_blocks == 60);
  CHECK(report.blocks_of_site == std::map<std::string, std::int64_t>{{"iowa", 40}, {"texas", 20}});
  CHECK(report.missing == BlockRanges{{50, 60}, {70, 100}});
  CHECK_FALSE(report.complete());
  CHECK(report.committed.hash == "bb");
}

TEST_CASE("the audit names what is wrong") {
  auto entries = sound_run();
  const auto expect = [&](const std::string& violation) {
    const AuditReport report = audit_entries(entries);
    REQUIRE(report.violations.size() == 1);
    CHECK(report.violations[0] == violation);
  };
  SECTION("a block counted twice") {
    entries[2]["sites"]["texas"]["blocks"] = {{29, 30}, {41, 50}, {60, 70}};
    entries[2]["blocks"] = 59;
    expect("block 29 is counted in version 1 and again by texas in version 2");
  }
  SECTION("a block counted by two sites in one round") {
    entries[2]["sites"]["texas"]["blocks"] = {{39, 40}, {41, 50}, {60, 70}};
    entries[2]["blocks"] = 59;
    expect("block 39 is counted in version 2 and again by texas in version 2");
  }
  SECTION("a version left out") {
    entries[2]["version"] = 3;
    expect("version 3 follows version 1");
  }
  SECTION("a round committed twice") {
    entries[2]["epoch"] = entries[2]["round"] = 1;
    expect("version 2: round 1 of epoch 1 was committed before");
  }
  SECTION("a wrong sum") {
    entries[1]["blocks"] = 31;
    expect("version 1 claims 31 blocks in all, counted are 30");
  }
  SECTION("a wrong weight") {
    entries[1]["sites"]["iowa"]["tokens"] = 1;
    expect("version 1: 1 tokens of iowa do not match its 30 blocks of 64");
  }
  SECTION("blocks beyond the run") {
    entries[1]["sites"]["iowa"] = {{"tokens", 31 * 64}, {"blocks", {{0, 30}, {100, 101}}}};
    expect("version 1: iowa counts blocks up to 101, the run has 100");
  }
  SECTION("a start of another run") {
    entries.push_back(to_json(StartEntry{"other", 100, 64, {0, 1000, 480}}));
    expect("start 2 is of another run than the first");
  }
  SECTION("another clock") {
    entries.push_back(to_json(StartEntry{"digest", 100, 64, {0, 1001, 480}}));
    expect("start 2 has another clock than the first");
  }
}

TEST_CASE("the audit refuses what is no journal of a hub") {
  const auto message = [](const std::vector<json>& entries) {
    return message_of([&] { audit_entries(entries); }, ExitCode::bad_data);
  };
  CHECK(message({}) == "the journal is empty");
  CHECK(message({sound_run()[1]}) == "the journal does not begin with a start");
  CHECK(message({{{"type", "party"}}}) ==
        R"(journal entry {"type":"party"}: its type is neither start nor commit)");
  CHECK(message({json(3)}) == "journal entry 3: its type is neither start nor commit");
  auto huge = sound_run();
  huge[0]["steps"] = 1'000'000'000'000;
  CHECK(message(huge) == "the journal's first line claims 1000000000000 steps of 64 tokens");
}

TEST_CASE("a run's history follows from its journal") {
  RunHistory history(100);
  for (const auto& entry : sound_run()) history.apply(entry);
  CHECK(history.starts == 1);
  CHECK(history.first_start->clock.speed == 480);
  CHECK(history.committed.version == 2);
  CHECK(history.committed.blocks == 60);
  CHECK(history.committed.hash == "bb");
  CHECK(history.ledger.available() == 40);
  CHECK(history.rounds == std::set<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {2, 4}});
  CHECK(history.last_merge == "nesterov");
  CHECK(history.rounds_solo == 1);
  CHECK(history.rounds_federated == 1);
}

TEST_CASE("a history refuses entries that contradict those before") {
  RunHistory history(100);
  auto entries = sound_run();
  history.apply(entries[0]);
  history.apply(entries[1]);
  const auto message = [&](const json& entry) {
    return message_of([&] { history.apply(entry); }, ExitCode::bad_data);
  };
  CHECK(message(entries[1]) == "the journal has version 1 after version 1");
  entries[2]["sites"]["texas"]["blocks"] = {{29, 30}};
  CHECK(message(entries[2]) ==
        "version 2 of the journal: blocks [29, 30) of texas are counted twice or do not exist");
  CHECK(message(to_json(StartEntry{"other", 100, 64, {}})) ==
        "the journal belongs to two runs: digest and other");
  CHECK(message(to_json(StartEntry{"digest", 200, 64, {}})) ==
        "the journal is of a run of 200 steps, not of 100");
}
