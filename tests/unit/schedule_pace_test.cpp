// What the schedules of sites that train together read: how far the run is, not how far one site is.
#include <cstdlib>

#include "federation_simulation.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"

using namespace spillway;
using simulation::World;

namespace {

constexpr std::int64_t kSteps = 600;
const std::vector<std::string> kSites = {"iowa", "oregon", "texas"};

// A whole run of three sites; "texas" needs `slowness` times as long for a block.
void run(World& world, double slowness) {
  world.add("vault", "vault");
  for (const auto& name : kSites) world.add(name);
  world.node("texas").train_slowly(slowness);
  world.start_hub();
  for (auto& [name, node] : world.nodes()) node->start();
  const bool complete = world.run_until([&] { return world.complete(); }, 2000);
  INFO(world.describe());
  REQUIRE(complete);
  REQUIRE(world.trained_blocks() == kSteps);
}

}  // namespace

TEST_CASE("schedules follow the progress of all sites, equally fast or not") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(1, 2, 3));
  const double slowness = GENERATE(1.0, 3.0);
  const bool overlap = GENERATE(false, true);
  INFO("seed " << seed << ", slowness " << slowness << ", overlap " << overlap);
  Quiet quiet;
  simulation::Options options{kSteps, seed};
  options.overlap = overlap;
  World world(options);
  run(world, slowness);
  for (const auto& name : kSites) {
    INFO(name);
    const auto& progress = world.node(name).progress();
    REQUIRE(progress.size() > 20);
    // Counting its own steps alone a site would be behind by two thirds of a round of 90 blocks, or more.
    std::int64_t most = 0;
    for (std::size_t i = progress.size() / 3; i < progress.size(); ++i)
      most = std::max(most, std::abs(progress[i].schedule_step - progress[i].trained_by_all));
    CHECK(most <= 30);
  }
}

TEST_CASE("the schedules of a site alone count its own steps") {
  Quiet quiet;
  World world({100, 4});
  world.add("vault", "vault");
  world.add("iowa");
  world.start_hub();
  for (auto& [name, node] : world.nodes()) node->start();
  REQUIRE(world.run_until([&] { return world.complete(); }, 600));
  std::int64_t step = 0;
  for (const auto& [schedule_step, trained_by_all] : world.node("iowa").progress())
    CHECK(schedule_step == step++);
}
