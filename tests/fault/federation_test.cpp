// The whole federation as processes on this machine: hub, vault and sites, with members killed.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "core/clock.hpp"
#include "core/process.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "train/journal.hpp"
#include "train/telemetry.hpp"
#include "train/training_state.hpp"

using namespace spillway;
using runs::operator+;

namespace {

// A hub on a port of its own and the sites' configuration.
class Federation {
 public:
  explicit Federation(std::int64_t steps, const std::string& compression = "bf16",
                      const std::string& overlap = "off") {
    runs::write_data(folder_.path() / "data");
    arguments_ = runs::Arguments{"--train.steps",
                                 std::to_string(steps),
                                 "--run.dir",
                                 run().string(),
                                 "--federation.compression",
                                 compression,
                                 "--federation.overlap",
                                 overlap,
                                 "--federation.round-length",
                                 "1s",
                                 "--federation.lease-steps",
                                 "20",
                                 "--federation.lost-after",
                                 "3s",
                                 "--train.suspend-deadline",
                                 "20s",
                                 "--train.log-every",
                                 "0",
                                 "--site.train-power",
                                 "2024",
                                 "--train.checkpoint-every",
                                 "2s"} +
                 runs::own_ports() + runs::small_model(folder_.path() / "data");
  }

  void add(const runs::Arguments& more) { arguments_ = arguments_ + more; }

  Process start_hub() const { return start(0, runs::Arguments{"hub"} + arguments_, "hub"); }
  Process start_site(const std::string& name, int ranks = 1, const runs::Arguments& extra = {}) const {
    auto arguments = runs::Arguments{"train", "--site", name} + arguments_;
    for (std::size_t i = 0; i + 1 < extra.size(); i += 2)
      *(std::find(arguments.begin(), arguments.end(), extra[i]) + 1) = extra[i + 1];
    return start(ranks, arguments, name);
  }
  // From now on a copy of the program is started, which the test may replace.
  std::filesystem::path use_copy() {
    program_ = folder_.path() / "spillway";
    std::filesystem::copy_file(SPILLWAY_BINARY, program_);
    return program_;
  }

  std::filesystem::path run() const { return folder_.path() / "run"; }
  std::filesystem::path log(const std::string& name) const { return folder_.path() / (name + ".log"); }

  std::vector<nlohmann::json> commits() const {
    std::vector<nlohmann::json> result;
    const auto file = run() / "hub" / "journal.jsonl";
    if (!std::filesystem::exists(file)) return result;
    for (const auto& entry : Journal::read(file))
      if (entry.at("type") == "commit") result.push_back(entry);
    return result;
  }
  // Waits for a commit with just these sites' work after the `known` first commits.
  bool wait_for_commit(std::size_t known, const std::vector<std::string>& sites,
                       double patience_s = 60) const {
    for (const double end_s = monotonic_s() + patience_s; monotonic_s() < end_s; usleep(50000)) {
      const auto all = commits();
      for (std::size_t i = known; i < all.size(); ++i) {
        std::vector<std::string> found;
        for (const auto& [name, work] : all[i].at("sites").items()) found.push_back(name);
        if (found == sites) return true;
      }
    }
    return false;
  }
  std::string logs() const {
    std::string text;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      if (entry.path().extension() == ".log")
        text += "== " + entry.path().string() + "\n" + runs::read_file(entry.path());
    return text;
  }
  // Every block of [0, steps) in exactly one commit.
  void require_every_block_once(std::int64_t steps) const {
    std::vector<int> times(static_cast<std::size_t>(steps), 0);
    for (const auto& entry : commits())
      for (const auto& [name, work] : entry.at("sites").items())
        for (const auto& range : work.at("blocks"))
          for (auto block = range.at(0).get<std::size_t>(); block < range.at(1).get<std::size_t>(); ++block)
            ++times.at(block);
    for (const int count : times) REQUIRE(count == 1);
  }

  // The whole run, over two sites of which one has two ranks.
  void complete(std::int64_t steps) const {
    Process hub = start_hub();
    Process california = start_site("california", 2);
    Process texas = start_site("texas");
    const bool done = california.wait(120) && texas.wait(60) && hub.wait(60);
    INFO(logs());
    REQUIRE(done);
    REQUIRE(california.status() == 0);
    REQUIRE(texas.status() == 0);
    REQUIRE(hub.status() == 0);
    require_every_block_once(steps);
  }

  // The ledgers in the journal are lines of the site's energy log; the report's rounds are their differences, its total
  // is the log's end, and the checkpoint's ledger is a line of the log too. All in whole millijoules and micrograms.
  void require_one_ledger(const std::string& site) const {
    using Values = std::map<std::string, std::int64_t>;
    const auto log = TelemetryLog::read(run() / site / TelemetryLog::kFileName);
    const auto in_log = [&](const std::string& event, const Values& values) {
      return std::any_of(log.begin(), log.end(), [&](const TelemetryLine& line) {
        return line.event == event && line.energy.to_map() == values;
      });
    };
    Values last;
    for (const auto& entry : commits()) {
      if (!entry.at("sites").contains(site)) continue;
      last = entry.at("sites").at(site).at("energy").get<Values>();
      REQUIRE(in_log("round", last));
    }
    REQUIRE(last.at("total_mj") > 0);
    REQUIRE(in_log("checkpoint", read_energy(runs::newest(run() / site)).to_map()));

    const auto report = runs::report(run());
    std::int64_t of_rounds_mj = 0, of_rounds_ug = 0;
    for (const auto& round : report.at("rounds")) {
      if (!round.at("sites").contains(site)) continue;
      of_rounds_mj += round.at("sites").at(site).at("energy").at("energy_mj").get<std::int64_t>();
      of_rounds_ug += round.at("sites").at(site).at("energy").at("emissions_ug").get<std::int64_t>();
    }
    const EnergyLedger in_journal = EnergyLedger::from_map(last);
    CHECK(of_rounds_mj == in_journal.total_mj());
    CHECK(of_rounds_ug == in_journal.emissions_ug(Account::marginal));
    for (const auto& own : report.at("sites"))
      if (own.at("name") == site) CHECK(own.at("energy").at("energy_mj") == log.back().energy.total_mj());
  }

 private:
  Process start(int ranks, const runs::Arguments& arguments, const std::string& name) const {
    ProcessOptions options = runs::command(ranks, arguments, log(name));
    std::replace(options.arguments.begin(), options.arguments.end(), std::string(SPILLWAY_BINARY),
                 program_.string());
    return Process(options);
  }

  TemporaryFolder folder_;
  std::filesystem::path program_ = SPILLWAY_BINARY;
  runs::Arguments arguments_;
};

// The processes below this one whose command line contains all the words.
std::vector<pid_t> descendants(pid_t root, const std::string& word) {
  std::vector<pid_t> family = {root}, found;
  for (std::size_t i = 0; i < family.size(); ++i) {
    std::ifstream children("/proc/" + std::to_string(family[i]) + "/task/" + std::to_string(family[i]) +
                           "/children");
    for (pid_t child = 0; children >> child;) family.push_back(child);
    std::string command = runs::read_file("/proc/" + std::to_string(family[i]) + "/cmdline");
    std::replace(command.begin(), command.end(), '\0', ' ');
    if (family[i] != root && command.find(word) != std::string::npos) found.push_back(family[i]);
  }
  return found;
}

}  // namespace

TEST_CASE("a killed leader costs its own round only, and its site comes back") {
  constexpr std::int64_t steps = 6000;
  const Federation federation(steps, "int8");
  Process hub = federation.start_hub();
  Process california = federation.start_site("california");
  Process texas = federation.start_site("texas");
  INFO(federation.logs());
  REQUIRE(federation.wait_for_commit(0, {"california", "texas"}));

  const auto leaders = descendants(california.pid(), "spillway train");
  REQUIRE(leaders.size() == 1);
  const std::size_t before = federation.commits().size();
  REQUIRE(kill(leaders[0], SIGKILL) == 0);
  REQUIRE(california.wait(30));
  REQUIRE(federation.wait_for_commit(before, {"texas"}));
  REQUIRE(texas.running());

  const std::size_t alone = federation.commits().size();
  california = federation.start_site("california");
  REQUIRE(federation.wait_for_commit(alone, {"california", "texas"}));

  // Planned end: both leave with their work merged.
  california.signal(SIGUSR1);
  texas.signal(SIGUSR1);
  REQUIRE(california.wait(40));
  REQUIRE(texas.wait(40));
  CHECK(california.status() == 75);
  CHECK(texas.status() == 75);
  // What int8 kept back waits in the checkpoint for the next merge.
  for (const std::string site : {"california", "texas"})
    CHECK(runs::newest(federation.run() / site).has("/outer/feedback"));
  hub.signal(SIGTERM);
  REQUIRE(hub.wait(20));
}

TEST_CASE("sites that average their optimizers' states hold the same one after each merge") {
  constexpr std::int64_t steps = 1000;
  const std::string streams = GENERATE("1", "2");
  Federation federation(steps, streams == "1" ? "bf16" : "int8");
  federation.add({"--federation.average-optimizer", "on", "--federation.streams", streams});
  federation.complete(steps);
  INFO(federation.logs());
  const auto hashes = [&](const std::string& site) {
    const std::string log = runs::read_file(federation.log(site)), words = "averaged over the sites, hash ";
    std::vector<std::string> found;
    for (std::size_t at = 0; (at = log.find(words, at)) != std::string::npos;)
      found.push_back(log.substr(at += words.size(), 12));
    return found;
  };
  CHECK_FALSE(hashes("california").empty());
  CHECK(hashes("california") == hashes("texas"));
  // A run may end with what one site has trained alone: then its optimizer has moved on.
  if (federation.commits().back().at("merge") == "adopt") return;
  const auto one = runs::newest(federation.run() / "california"),
             other = runs::newest(federation.run() / "texas");
  for (const std::string name :
       {"adamw/m/lm_head.weight", "adamw/v/transformer.wte.weight",
        "muon/momentum/transformer.h.0.attn.c_q.weight", "muon/variance/transformer.h.1.mlp.c_fc.weight"}) {
    INFO(name);
    const auto values = one.read_floats("/optimizer/" + name);
    CHECK(std::any_of(values.begin(), values.end(), [](float value) { return value != 0; }));
    CHECK(values == other.read_floats("/optimizer/" + name));
  }
}

TEST_CASE("a run over two sites completes and counts every block once, with and without overlap") {
  constexpr std::int64_t steps = 400;
  const std::string overlap = GENERATE("off", "on");
  const Federation federation(steps, "bf16", overlap);
  federation.complete(steps);
  INFO(federation.logs());
  const auto hash = [&](const std::string& site) {
    return std::get<std::string>(runs::newest(federation.run() / site).attributes("/outer").at("hash"));
  };
  REQUIRE(hash("california") == hash("texas"));
  REQUIRE(hash("vault") == hash("texas"));
  REQUIRE(federation.commits().back().at("hash") == hash("texas"));
  federation.require_one_ledger("california");
  federation.require_one_ledger("texas");
  // The walk over tokens has an entropy of 1.6 nats; one site alone reaches 1.9, an untrained model 4.2.
  const std::string log = runs::read_file(federation.log("texas"));
  const std::string words = "validation at step " + std::to_string(steps) + ": loss ";
  REQUIRE(log.find(words) != std::string::npos);
  const double loss_nats = std::stod(log.substr(log.find(words) + words.size()));
  CHECK(loss_nats < 2.2);
}

TEST_CASE("a run goes on with its program when the file is replaced or removed, whatever it starts anew") {
  const bool removed = GENERATE(false, true);
  INFO((removed ? "removed" : "replaced"));
  Federation federation(100000);
  const std::filesystem::path program = federation.use_copy();
  Process hub = federation.start_hub();
  Process texas = federation.start_site("texas");
  const bool began = federation.wait_for_commit(0, {"texas"});
  INFO(federation.logs());
  REQUIRE(began);

  std::filesystem::remove(program);
  if (!removed) {
    std::ofstream(program) << "#!/bin/sh\necho the new version\nexit 1\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  }
  // The leader starts a courier, the hub a vault, which starts a courier, and both couriers gateways.
  for (const pid_t pid : descendants(texas.pid(), "spillway courier")) REQUIRE(kill(pid, SIGKILL) == 0);
  for (const pid_t pid : descendants(hub.pid(), "spillway vault")) REQUIRE(kill(pid, SIGKILL) == 0);
  const std::size_t before = federation.commits().size();
  const bool went_on = federation.wait_for_commit(before + 1, {"texas"});
  INFO(federation.logs());
  REQUIRE(went_on);
  CHECK(descendants(texas.pid(), "/exe courier").size() == 1);
  CHECK(descendants(hub.pid(), "/exe vault").size() == 1);
  texas.signal(SIGUSR1);
  REQUIRE(texas.wait(40));
  CHECK(texas.status() == 75);
  hub.signal(SIGTERM);
  REQUIRE(hub.wait(20));
}

TEST_CASE("a hub refuses a number of streams that it cannot have") {
  const std::string streams = GENERATE("0", "17");
  Federation federation(10);
  federation.add({"--federation.streams", streams});
  Process hub = federation.start_hub();
  REQUIRE(hub.wait(20));
  CHECK(hub.status() == 64);
  CHECK(federation.logs().find("--federation.streams " + streams + ": must be from 1 to 16") !=
        std::string::npos);
}

TEST_CASE("a second site of one name is refused") {
  const Federation federation(100000);
  Process hub = federation.start_hub();
  Process first = federation.start_site("california");
  REQUIRE(federation.wait_for_commit(0, {"california"}));
  // On another machine: its checkpoints are in a folder of its own.
  Process twin =
      federation.start_site("california", 1, {"--run.dir", (federation.run() / "elsewhere").string()});
  REQUIRE(twin.wait(30));
  INFO(federation.logs());
  REQUIRE(twin.status() == 64);
  REQUIRE(federation.logs().find("a member of the name 'california' is connected already") !=
          std::string::npos);
  REQUIRE(first.running());
  first.signal(SIGUSR1);
  REQUIRE(first.wait(40));
  hub.signal(SIGTERM);
  REQUIRE(hub.wait(20));
}
