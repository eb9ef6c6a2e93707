// Sites that train on while their round is merged, on a simulated network.
#include "federation_simulation.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"
#include "train/audit.hpp"

using namespace spillway;
using simulation::World;

namespace {

constexpr std::int64_t kSteps = 200;
const std::vector<std::string> kSites = {"iowa", "oregon"};

// Two sites in a federation whose exchanges take up to 5 s, ten steps of a site.
struct Federation {
  explicit Federation(std::uint64_t seed, double background_s = 0) : world(options(seed, background_s)) {
    world.add("vault", "vault");
    for (const auto& name : kSites) world.add(name);
    world.start_hub();
    for (auto& [name, node] : world.nodes()) node->start();
    require_until([this] { return world.version() >= 1; });
  }
  static simulation::Options options(std::uint64_t seed, double background_s) {
    simulation::Options options{kSteps, seed};
    options.overlap = true;
    options.exchange_s = 5;
    options.background_s = background_s;
    return options;
  }
  void require_until(const std::function<bool()>& condition, double limit_s = 120) {
    const bool reached = world.run_until(condition, limit_s);
    INFO(world.describe());
    REQUIRE(reached);
  }
  // Also that no block was trained on twice: nothing has been lost.
  void require_complete_without_loss() {
    require_until([this] { return world.complete(); }, 600);
    REQUIRE(audit_entries(world.journal()).violations == std::vector<std::string>{});
    std::int64_t trained = 0;
    for (const auto& name : kSites) trained += world.node(name).trained();
    REQUIRE(trained == kSteps);
  }
  std::int64_t own_steps(const std::string& name) {
    return count_blocks(world.node(name).member().state().consumed);
  }

  Quiet quiet;
  World world;
};

}  // namespace

TEST_CASE("with overlap sites train on during an exchange, and those steps count in the next round") {
  Federation federation(GENERATE(1, 2, 3));
  World& world = federation.world;
  federation.require_until([&] { return world.epoch_state() == "exchanging"; });
  const std::int64_t version = world.version(), before = federation.own_steps("iowa");
  federation.require_until([&] { return world.version() > version; });
  CHECK(federation.own_steps("iowa") > before);
  federation.require_until([&] { return world.node("iowa").version() > version; });
  // Its part of the commit has gone from its own work, the steps since have not.
  const auto entry = world.commits().back().at("sites").at("iowa");
  std::int64_t merged = 0;
  for (const auto& range : entry.at("blocks"))
    merged += range.at(1).get<std::int64_t>() - range.at(0).get<std::int64_t>();
  CHECK(merged >= before - 1);
  CHECK(federation.own_steps("iowa") > 0);
  federation.require_complete_without_loss();
}

TEST_CASE("with overlap a hub killed at the journal line costs no step, whatever the outcome") {
  const bool written = GENERATE(false, true);
  INFO("the line " << (written ? "was" : "was not") << " written");
  Federation federation(GENERATE(1, 2, 3, 4), GENERATE(0, 2));
  World& world = federation.world;
  world.at_next_commit(written ? World::AtJournal::die_after : World::AtJournal::die_before);
  federation.require_until([&] { return !world.hub_alive(); });
  world.run(3);
  world.start_hub();
  federation.require_complete_without_loss();
}

TEST_CASE("with overlap an aborted exchange leaves the round as it was") {
  Federation federation(GENERATE(1, 2, 3), GENERATE(0, 2));
  World& world = federation.world;
  federation.require_until([&] { return world.epoch_state() == "exchanging"; });
  world.node("oregon").kill_gateway();
  federation.require_complete_without_loss();
}

TEST_CASE("with overlap a site that leaves during an exchange hands in what it trained since") {
  Federation federation(GENERATE(1, 2, 3), GENERATE(0, 2));
  World& world = federation.world;
  federation.require_until([&] { return world.epoch_state() == "exchanging"; });
  world.run(0.8);
  world.node("iowa").close_window();
  federation.require_until([&] { return !world.node("iowa").running(); });
  federation.require_complete_without_loss();
}

TEST_CASE("with overlap a site that waits for another's part of the merge gets data to train on") {
  Federation federation(GENERATE(1, 2, 3));
  World& world = federation.world;
  federation.require_until([&] { return world.epoch_state() == "exchanging"; });
  world.run(4.9);
  world.node("oregon").hang(12);
  world.run(1);
  const std::int64_t before = world.node("iowa").trained();
  world.run(10);
  INFO(world.describe());
  CHECK(world.node("iowa").trained() - before >= 18);  // a step takes 0.5 s
  federation.require_complete_without_loss();
}
