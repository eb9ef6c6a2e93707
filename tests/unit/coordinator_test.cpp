// The hub's decisions in scripted scenarios on a simulated network.
#include "train/coordinator.hpp"

#include <limits>

#include "federation_simulation.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"
#include "train/audit.hpp"

using namespace spillway;
using simulation::Node;
using simulation::World;

namespace {

using Names = std::vector<std::string>;

// A hub with its vault, and sites that are not running yet.
struct Federation {
  explicit Federation(const Names& sites, std::int64_t steps = 200, std::uint64_t seed = 1)
      : world({steps, seed}) {
    world.add("vault", "vault");
    for (const auto& name : sites) world.add(name);
    world.start_hub();
    world.node("vault").start();
  }
  Node& operator[](const std::string& name) { return world.node(name); }

  void require_until(const std::function<bool()>& condition, double limit_s = 60) {
    const bool reached = world.run_until(condition, limit_s);
    INFO(world.describe());
    REQUIRE(reached);
  }
  void require_complete(double limit_s = 600) {
    require_until([&] { return world.complete(); }, limit_s);
    const AuditReport report = audit_entries(world.journal());
    REQUIRE(report.violations == Names{});
  }
  void require_epoch(const Names& members, double limit_s = 60) {
    require_until([&] { return world.epoch_state() == "up" && world.epoch_members() == members; }, limit_s);
  }
  void require_version(std::int64_t version, double limit_s = 60) {
    require_until([&] { return world.version() >= version; }, limit_s);
  }
  // Who had work in the newest commit.
  Names workers() const {
    Names names;
    const auto newest = world.commits().back();
    for (const auto& [name, work] : newest.at("sites").items()) names.push_back(name);
    return names;
  }
  std::string merge() const { return world.commits().back().at("merge"); }

  Quiet quiet;
  World world;
};

}  // namespace

TEST_CASE("a site alone trains the whole run and every merge is an adoption") {
  Federation federation({"iowa"});
  federation["iowa"].start();
  federation.require_complete();
  for (const auto& commit : federation.world.commits()) REQUIRE(commit.at("merge") == "adopt");
  federation.require_until([&] { return federation.world.hub().everybody_gone(); });
}

TEST_CASE("one site, then two, then one: joins and planned leaves merge what was done") {
  Federation federation({"iowa", "oregon"}, 400);
  federation["iowa"].start();
  federation.require_epoch({"iowa", "vault"});
  federation.world.run(3);
  federation["oregon"].start();
  federation.require_epoch({"iowa", "oregon", "vault"});
  CHECK(federation.merge() == "adopt");  // the solo round ended early for the newcomer
  const auto together = federation.world.version();
  federation.require_version(together + 2);
  CHECK(federation.merge() == "nesterov");
  CHECK(federation.workers() == Names{"iowa", "oregon"});
  federation.world.run(5);
  federation["iowa"].close_window();
  federation.require_until([&] { return !federation["iowa"].running(); });
  CHECK(federation["iowa"].version() == federation.world.version());  // it left with its last work merged
  federation.require_epoch({"oregon", "vault"});
  federation.require_version(federation.world.version() + 1);
  CHECK(federation.merge() == "adopt");
  federation.require_complete();
}

TEST_CASE("the vault hands the model on to a site that opens when all others are gone") {
  Federation federation({"iowa", "oregon"});
  federation["iowa"].start();
  federation.require_version(2);
  federation["iowa"].close_window();
  federation.require_until([&] { return !federation["iowa"].running(); });
  const auto version = federation.world.version();
  federation.world.run(3600);
  CHECK(federation.world.epoch_state() == "none");
  CHECK(federation.world.version() == version);
  federation["oregon"].start();
  federation.require_until([&] { return federation["oregon"].version() == version; });
  federation.require_version(version + 1);
  CHECK(federation.workers() == Names{"oregon"});
  federation.require_complete();
}

TEST_CASE("a process that dies in any state of an epoch costs no more than its own round") {
  const std::string state = GENERATE("naming", "forming", "syncing", "up", "exchanging", "stopping");
  const std::string victim = GENERATE("oregon", "vault");
  const std::string how = GENERATE("site", "leader", "gateway", "link", "pause", "hang");
  INFO(victim << ": " << how << " dies while " << state);
  Federation federation({"iowa", "oregon"}, 200, 7);
  federation["iowa"].start();
  federation.require_version(1);
  federation["oregon"].start();
  federation.require_until([&] { return federation.world.epoch_state() == state; });
  if (how == "site") federation[victim].kill();
  if (how == "leader") federation[victim].kill_leader();
  if (how == "gateway") federation[victim].kill_gateway();
  if (how == "link") federation[victim].cut(3);
  if (how == "pause") federation[victim].pause(30);
  if (how == "hang") federation[victim].hang(30);
  federation.world.run(1);
  CHECK(federation["iowa"].running());
  federation["vault"].start();
  const auto version = federation.world.version();
  federation.require_version(version + 1, 90);
  federation["oregon"].start();
  federation.require_epoch({"iowa", "oregon", "vault"}, 90);
  federation.require_complete();
}

TEST_CASE("a hub killed in any state goes on where it was") {
  const std::string state = GENERATE("naming", "forming", "syncing", "up", "exchanging", "stopping");
  const double away_s = GENERATE(0.2, 8.0, 60.0);
  INFO("killed while " << state << ", away for " << away_s << " s");
  Federation federation({"iowa", "oregon"}, 300, 3);
  federation["iowa"].start();
  federation.require_version(1);
  federation["oregon"].start();
  federation.require_until([&] { return federation.world.epoch_state() == state; });
  const auto version = federation.world.version();
  federation.world.kill_hub();
  federation.world.run(away_s);
  CHECK(federation["iowa"].running());
  CHECK(federation["oregon"].running());
  federation.world.start_hub();
  CHECK(federation.world.hub().committed().version == version);
  federation.require_version(version + 1);
  federation.require_complete();
  // Numbers of epochs and rounds are never used again.
  std::set<std::int64_t> rounds;
  for (const auto& commit : federation.world.commits())
    REQUIRE(rounds.insert(commit.at("round").get<std::int64_t>()).second);
}

TEST_CASE("a hub killed at the journal line of a commit: committed everywhere or nowhere") {
  const bool written = GENERATE(false, true);
  INFO("the line " << (written ? "was" : "was not") << " written");
  Federation federation({"iowa", "oregon"});
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_version(1);
  federation.world.at_next_commit(written ? World::AtJournal::die_after : World::AtJournal::die_before);
  federation.require_until([&] { return !federation.world.hub_alive(); });
  CHECK(federation.world.version() == (written ? 2 : 1));
  federation.world.run(3);
  federation.world.start_hub();
  federation.require_epoch({"iowa", "oregon", "vault"});
  federation.require_until([&] {
    const auto versions = {federation["iowa"].version(), federation["oregon"].version(),
                           federation["vault"].version(), federation.world.version()};
    return std::min(versions) == std::max(versions);
  });
  federation.require_complete();
}

TEST_CASE("what all sites trained while the hub was away or cut off is merged once it is back") {
  const bool killed = GENERATE(true, false);
  const std::uint64_t seed = GENERATE(1, 2, 3, 4, 5);
  INFO((killed ? "killed" : "cut off") << ", seed " << seed);
  Federation federation({"iowa", "ohio", "oregon"}, 2000, seed);
  for (const std::string site : {"iowa", "ohio", "oregon"}) federation[site].start();
  federation.require_until(
      [&] { return federation.world.version() > 0 && federation.workers().size() == 3; });
  federation.world.run(3);
  if (killed)
    federation.world.kill_hub();
  else
    for (const std::string site : {"iowa", "ohio", "oregon"}) federation[site].cut(15);
  federation.world.run(12);
  std::map<std::string, RangeSet> trained;
  for (const std::string site : {"iowa", "ohio", "oregon"})
    trained.emplace(site, RangeSet(federation[site].member().state().consumed));
  const auto version = federation.world.version();
  if (killed) federation.world.start_hub();
  federation.require_version(version + 1);
  const CommitEntry next = commit_entry(federation.world.commits().at(static_cast<std::size_t>(version)));
  for (const auto& [site, blocks] : trained) {
    INFO(site << " trained " << to_string(blocks));
    REQUIRE(blocks.count() > 0);
    REQUIRE(next.sites.count(site) == 1);
    const RangeSet merged(next.sites.at(site).blocks);
    for (const auto& [first, end] : blocks.ranges()) REQUIRE(merged.contains(first, end));
  }
}

TEST_CASE("a hub that is back waits for a site that does not return, but not for long") {
  Federation federation({"iowa", "oregon"}, 2000);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_until(
      [&] { return federation.world.version() > 0 && federation.workers().size() == 2; });
  federation.world.kill_hub();
  federation["oregon"].kill();
  federation.world.run(2);
  federation.world.start_hub();
  const double start_s = federation.world.now_s();
  federation.require_epoch({"iowa", "vault"});
  const CoordinatorOptions options;
  CHECK(federation.world.now_s() - start_s > options.lost_lease_s);
  CHECK(federation.world.now_s() - start_s < options.lost_lease_s + 5);
}

TEST_CASE("a site whose gateway is killed is in the next epoch and keeps its round") {
  const std::uint64_t seed = GENERATE(1, 2, 3, 4, 5);
  INFO("seed " << seed);
  Federation federation({"iowa", "ohio", "oregon"}, 2000, seed);
  for (const std::string site : {"iowa", "ohio", "oregon"}) federation[site].start();
  federation.require_until(
      [&] { return federation.world.version() > 0 && federation.workers().size() == 3; });
  federation.world.run(5);
  const RangeSet trained(federation["ohio"].member().state().consumed);
  const auto version = federation.world.version();
  federation["ohio"].kill_gateway();
  federation.require_version(version + 1);
  const CommitEntry next = commit_entry(federation.world.commits().at(static_cast<std::size_t>(version)));
  REQUIRE(next.sites.count("ohio") == 1);
  const RangeSet merged(next.sites.at("ohio").blocks);
  REQUIRE(trained.count() > 0);
  for (const auto& [first, end] : trained.ranges()) REQUIRE(merged.contains(first, end));
}

TEST_CASE("sites that start at nearly the same time begin together") {
  const std::uint64_t seed = GENERATE(1, 2, 3, 4, 5);
  INFO("seed " << seed);
  Federation federation({"iowa", "ohio", "oregon"}, 2000, seed);
  for (const std::string site : {"iowa", "ohio", "oregon"}) {
    federation[site].start();
    federation.world.run(0.2);
  }
  federation.require_version(1);
  REQUIRE(federation.workers() == Names{"iowa", "ohio", "oregon"});
}

TEST_CASE("members that computed different models commit nothing, and repeat the round") {
  const std::string victim = GENERATE("iowa", "vault");
  Federation federation({"iowa", "oregon"});
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_version(1);
  federation.world.corrupt_next_exchange(victim);
  federation.require_until([&] { return federation.world.epoch_state() == "exchanging"; });
  federation.require_until([&] { return federation.world.epoch_state() == "none"; });
  CHECK(federation.world.version() == 1);
  federation.require_version(2);
  federation.require_complete();
}

TEST_CASE("a laggard is dropped at the deadline, the others go on, and it comes back") {
  Federation federation({"iowa", "oregon"}, 400);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_version(1);
  federation["oregon"].hang(120);
  const auto version = federation.world.version();
  federation.require_epoch({"iowa", "vault"});
  federation.require_version(version + 1);
  CHECK(federation.workers() == Names{"iowa"});
  federation.require_epoch({"iowa", "oregon", "vault"}, 200);
  federation.require_complete();
}

TEST_CASE("a leader that is stopped holds the others up for seconds, not until the deadline") {
  const std::string state = GENERATE("end of the round", "syncing", "exchanging");
  const std::uint64_t seed = GENERATE(1, 2, 3, 4, 5);
  INFO("stopped while " << state << ", seed " << seed);
  Federation federation({"iowa", "oregon"}, 2000, seed);
  federation["iowa"].start();
  federation.require_version(1);
  federation["oregon"].start();
  if (state == "syncing") {
    federation.require_until([&] { return federation.world.epoch_state() == state; });
  } else {
    federation.require_epoch({"iowa", "oregon", "vault"});
    if (state == "exchanging")
      federation.require_until([&] { return federation.world.epoch_state() == state; });
    if (state == "end of the round") federation.world.run(13);  // of 15
  }
  federation["oregon"].pause(300);
  const double stopped_s = federation.world.now_s();
  federation.require_epoch({"iowa", "vault"}, 60);
  CHECK(federation.world.now_s() - stopped_s < 9);  // its courier needs 5 s, a deadline has 20
  const auto version = federation.world.version();
  federation.require_version(version + 1);
  CHECK(federation.workers() == Names{"iowa"});
  // It comes back soon after it runs again, whatever it has to say.
  federation.world.run(stopped_s + 300 - federation.world.now_s());
  federation.require_epoch({"iowa", "oregon", "vault"}, 30);
  federation.require_until([&] { return federation.workers() == Names{"iowa", "oregon"}; });
  federation.require_complete(3000);
}

TEST_CASE("a leader that is stopped and runs again before its round ends loses nothing") {
  const std::uint64_t seed = GENERATE(1, 2, 3, 4, 5);
  INFO("seed " << seed);
  Federation federation({"iowa", "oregon"}, 2000, seed);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_until(
      [&] { return federation.world.version() > 0 && federation.workers().size() == 2; });
  federation.world.run(4);
  const RangeSet trained(federation["oregon"].member().state().consumed);
  REQUIRE(trained.count() > 0);
  const auto version = federation.world.version();
  const auto epoch = federation.world.hub().snapshot(federation.world.now_s()).at("epoch").at("id");
  federation["oregon"].pause(9);  // noticed after 5 s; the round ends 15 s after its begin
  federation.require_version(version + 1);
  CHECK(federation.world.hub().snapshot(federation.world.now_s()).at("epoch").at("id") == epoch);
  const CommitEntry next = commit_entry(federation.world.commits().at(static_cast<std::size_t>(version)));
  REQUIRE(next.sites.count("oregon") == 1);
  const RangeSet merged(next.sites.at("oregon").blocks);
  for (const auto& [first, end] : trained.ranges()) REQUIRE(merged.contains(first, end));
}

TEST_CASE("a vault that is stopped is waited for: nobody else could go on") {
  Federation federation({"iowa", "oregon"}, 2000);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_version(1);
  const auto epoch = federation.world.hub().snapshot(federation.world.now_s()).at("epoch").at("id");
  federation["vault"].pause(30);  // a round and half of its deadline
  federation.require_version(2);
  CHECK(federation.world.hub().snapshot(federation.world.now_s()).at("epoch").at("id") == epoch);
}

TEST_CASE("a site that leaves while an epoch forms merges its work and goes") {
  Federation federation({"iowa", "oregon"});
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_until([&] { return federation.world.epoch_state() == "forming"; });
  federation["oregon"].close_window();
  federation.require_until([&] { return !federation["oregon"].running(); });
  CHECK(federation["oregon"].version() == federation.world.version());
  federation.require_epoch({"iowa", "vault"});
  federation.require_complete();
}

TEST_CASE("a site whose window closes without an epoch gets one for its work") {
  Federation federation({"iowa"});
  federation["vault"].kill();
  federation["iowa"].start();
  federation.world.run(8);
  CHECK(federation["iowa"].member().state().consumed.size() == 1);
  federation["iowa"].close_window();
  federation.world.run(1);
  federation["vault"].start();
  federation.require_until([&] { return !federation["iowa"].running(); });
  CHECK(federation.world.version() == 1);
  CHECK(federation["iowa"].version() == 1);
}

TEST_CASE("a path that is cut between two sites leaves the largest set together, until it is repaired") {
  Federation federation({"iowa", "oregon", "texas"}, 600);
  for (const auto* name : {"iowa", "oregon", "texas"}) federation[name].start();
  federation.require_epoch({"iowa", "oregon", "texas", "vault"});
  federation.world.block_path("iowa", "texas", true);
  federation.require_until([&] { return federation.world.epoch_members().size() == 3; });
  const auto version = federation.world.version();
  federation.require_version(version + 2, 120);
  const auto members = federation.world.epoch_members();
  CHECK(std::count(members.begin(), members.end(), "oregon") == 1);
  federation.world.block_path("iowa", "texas", false);
  federation.require_epoch({"iowa", "oregon", "texas", "vault"}, 120);
  federation.require_complete();
}

TEST_CASE("blocks of a site that does not come back return to the pool") {
  Federation federation({"iowa", "oregon"}, 60);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_epoch({"iowa", "oregon", "vault"});
  federation.world.run(4);
  federation["oregon"].kill();
  federation.require_complete();
}

TEST_CASE("a model that nobody holds is waited for") {
  Federation federation({"iowa", "oregon"});
  federation["iowa"].start();
  federation.require_version(2);
  federation["iowa"].close_window();
  federation.require_until([&] { return !federation["iowa"].running(); });
  federation["vault"].kill();
  federation["vault"].lose_disk();
  federation["vault"].start();
  federation["oregon"].start();
  federation.world.run(60);
  CHECK(federation.world.epoch_state() == "none");
  federation["iowa"].start();
  federation.require_epoch({"iowa", "oregon", "vault"});
  federation.require_complete();
}

TEST_CASE("a name server that dies while an epoch forms costs a moment") {
  Federation federation({"iowa"});
  federation.world.kill_name_server();
  federation["iowa"].start();
  federation.require_version(1);
  federation.require_complete();
}

TEST_CASE("a site that lacks the last version when the run completes fetches it and goes") {
  Federation federation({"iowa", "oregon"}, 60);
  federation["iowa"].start();
  federation.require_version(1);
  federation.require_until([&] { return federation.world.epoch_state() == "exchanging"; });
  federation.world.run_until([&] { return federation.world.committed_blocks() > 50; }, 120);
  federation["oregon"].start();
  federation.require_complete();
  federation.require_until([&] { return federation.world.hub().everybody_gone(); });
  CHECK(federation["oregon"].version() == federation.world.version());
}

TEST_CASE("a delta that is not finite is refused, its data returns to the pool and its site goes on") {
  const float value =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const bool alone = GENERATE(false, true);
  INFO(value << (alone ? ", one site" : ", two sites"));
  Federation federation({"iowa", "oregon"}, 300);
  federation["oregon"].start();
  if (!alone) federation["iowa"].start();
  federation.require_version(2);
  federation["oregon"].poison_next_block(value);
  federation.require_complete();
  CHECK(federation.world.hub().snapshot(0).at("complete") == true);
  std::int64_t refused = 0;
  for (const auto& round : federation.world.rounds()) refused += round.at("refused").value("oregon", 0);
  CHECK(refused == 1);
}

TEST_CASE("a delta far beyond the running median is refused, and only that one") {
  Federation federation({"iowa", "oregon"}, 400);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_version(3);  // two norms each, or more
  federation["oregon"].poison_next_block(1e6f);
  federation.require_complete();
  std::int64_t refused = 0;
  for (const auto& round : federation.world.rounds()) {
    refused += round.at("refused").value("oregon", 0);
    CHECK(round.at("refused").count("iowa") == 0);
  }
  CHECK(refused == 1);
}

TEST_CASE("a lone site whose deltas are large for good is accepted after three refusals") {
  Federation federation({"iowa"}, 400);
  federation["iowa"].start();
  federation.require_version(5, 200);
  federation["iowa"].train_to(1e6f);
  federation.require_complete(2000);
  std::int64_t refused = 0;
  for (const auto& round : federation.world.rounds()) refused += round.at("refused").value("iowa", 0);
  CHECK(refused == 3);
}

TEST_CASE("a site with other data is refused, with the digests of both") {
  Federation federation({"iowa", "oregon"}, 100);
  federation["iowa"].start();
  federation.require_version(1);
  federation["oregon"].set_data("other");
  federation["oregon"].expect_refusal();
  const bool restarted = GENERATE(false, true);
  if (restarted) {  // the journal knows the data of the run
    federation["iowa"].kill();
    federation["vault"].set_data("");  // a vault without data.dir has no say
    federation["vault"].kill();
    federation.world.kill_hub();
    federation.world.start_hub();
    federation["vault"].start();
  }
  federation["oregon"].start();
  federation.require_until([&] { return federation["oregon"].refused().has_value(); });
  CHECK(federation["oregon"].refused()->exit_code == 65);
  CHECK(
      federation["oregon"].refused()->reason ==
      "its data.dir holds other tokens (digest other) than the run's (data): copy the folder from a site of "
      "this run");
  federation["iowa"].start();
  federation.require_complete();
}

TEST_CASE("every committed round is recorded with its timing, norms and cosines") {
  Federation federation({"iowa", "oregon"}, 200);
  federation["iowa"].start();
  federation["oregon"].start();
  federation.require_complete();
  const auto& rounds = federation.world.rounds();
  REQUIRE(static_cast<std::int64_t>(rounds.size()) == federation.world.version());
  bool together = false;
  for (const auto& round : rounds) {
    for (const char* key : {"train_s", "form_s", "wait_s", "exchange_s", "apply_s"})
      CHECK(round.at(key).get<double>() >= 0);
    CHECK(round.at("exchange_s").get<double>() > 0);
    for (const auto& [site, work] : round.at("sites").items()) CHECK(work.at("norm").get<double>() > 0);
    together = together || round.at("cosines").contains("iowa·oregon");
  }
  CHECK(together);
}
