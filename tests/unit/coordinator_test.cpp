// The hub's decisions, in scripted scenarios on a simulated network.
#include "train/coordinator.hpp"

#include "../catch.hpp"
#include "federation_simulation.hpp"
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

  void require_complete(double limit_s = 600) {
    const bool done = world.run_until([&] { return world.complete(); }, limit_s);
    INFO(world.describe());
    REQUIRE(done);
    require_clean();
  }
  void require_clean() {
    const AuditReport report = audit_entries(world.journal());
    INFO(world.describe());
    REQUIRE(report.violations == Names{});
  }
  void require_epoch(const Names& members, double limit_s = 30) {
    const bool reached = world.run_until(
        [&] { return world.epoch_members() == members && world.epoch_state() == "up"; }, limit_s);
    INFO(world.describe());
    REQUIRE(reached);
  }
  simulation::Quiet quiet;
  World world;
};

}  // namespace

TEST_CASE("a site alone trains the whole run with the vault") {
  Federation federation({"iowa"});
  federation.world.node("iowa").start();
  federation.require_complete();
  for (const auto& commit : federation.world.commits()) REQUIRE(commit.at("merge") == "adopt");
}
