// Random churn: sites come and go, processes die, links break, the hub restarts. Whatever happens, every block is merged
// exactly once, versions follow one another, members agree, and once the faults end the run reaches its target.
#include <cstdio>
#include <cstdlib>

#include "federation_simulation.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"
#include "train/audit.hpp"

using namespace spillway;
using simulation::Node;
using simulation::World;

namespace {

constexpr std::int64_t kStepsPerSite = 200;
constexpr double kFaultsFor_s = 250, kRecoveryLimit_s = 900;

// One random event. Faults hit a random site or, now and then, the vault.
void disturb(World& world, const std::vector<std::string>& sites) {
  const auto& name = sites[static_cast<std::size_t>(world.pick(static_cast<std::int64_t>(sites.size())))];
  Node& site = world.node(name);
  Node& victim = world.pick(5) == 0 ? world.node("vault") : site;
  const auto& other = world.pick(2) == 0 ? sites.front() : std::string("vault");
  switch (world.pick(14)) {
    case 0:
    case 1:
    case 2:
      site.start();
      break;
    case 3:
    case 4:
      site.close_window();
      break;
    case 5:
      victim.kill();
      break;
    case 6:
      victim.kill_leader();
      break;
    case 7:
      victim.kill_gateway();
      break;
    case 8:
      victim.cut(world.uniform(0.5, 20));
      break;
    case 9:
      if (world.pick(3) == 0)
        victim.hang(world.uniform(1, 40));
      else
        victim.pause(world.uniform(1, 40));
      break;
    case 10:
      world.kill_hub();
      break;
    case 11:
      world.at_next_commit(world.pick(2) == 0 ? World::AtJournal::die_before : World::AtJournal::die_after);
      break;
    case 12:
      if (name != other) world.block_path(name, other, world.pick(2) == 0);
      break;
    case 13:
      if (world.pick(2) == 0)
        world.kill_name_server();
      else
        world.corrupt_next_exchange(victim.name());
      break;
  }
}

// SPILLWAY_CHURN_SEEDS=FIRST,COUNT asks for others: a thousand take ten minutes.
int setting(bool count, int otherwise) {
  const char* text = std::getenv("SPILLWAY_CHURN_SEEDS");
  int first = 0, number = 0;
  if (text == nullptr || std::sscanf(text, "%d,%d", &first, &number) != 2) return otherwise;
  return count ? number : first;
}

}  // namespace

TEST_CASE("random churn merges every block exactly once and never waits for ever") {
  const Quiet quiet;
  const int first_seed = setting(false, 1), seeds = setting(true, 28);
  const auto seed = static_cast<std::uint64_t>(first_seed + GENERATE_REF(range(0, seeds)));
  const bool overlap = GENERATE(false, true);
  std::vector<std::string> sites = {"iowa",       "oregon", "texas", "utah",
                                    "california", "nevada", "ohio",  "maine"};
  sites.resize(2 + seed % 7);
  simulation::Options options{kStepsPerSite * std::ssize(sites), seed};
  options.overlap = overlap;
  if (overlap) options.exchange_s = options.background_s = 3;
  World world(options);
  INFO("seed " << seed << ", overlap " << overlap);
  world.add("vault", "vault");
  for (const auto& name : sites) world.add(name);

  const double end_s = world.now_s() + kFaultsFor_s;
  while (world.now_s() < end_s && !world.complete()) {
    // The batch systems and the operator start again what has died; not at once.
    if (!world.hub_alive() && world.pick(4) == 0) world.start_hub();
    if (world.pick(3) == 0) world.node("vault").start();
    if (world.pick(3) == 0) disturb(world, sites);
    world.run(world.uniform(0.1, 3));
  }
  for (const auto& a : sites) {
    world.block_path(a, "vault", false);
    for (const auto& b : sites)
      if (a != b) world.block_path(a, b, false);
  }
  world.at_next_commit(World::AtJournal::live);
  const auto all_done = [&] {
    if (!world.hub_alive()) world.start_hub();
    world.node("vault").start();
    for (const auto& name : sites)
      if (!world.complete()) world.node(name).start();
    return world.complete();
  };
  const bool complete = world.run_until(all_done, kRecoveryLimit_s);
  INFO(world.describe());
  REQUIRE(complete);
  const AuditReport report = audit_entries(world.journal());
  REQUIRE(report.violations == std::vector<std::string>{});
  REQUIRE(report.complete());
  // The sites that are connected learn of the end and go.
  const bool gone = world.run_until([&] { return world.hub().everybody_gone(); }, 120);
  INFO(world.describe());
  REQUIRE(gone);
}
