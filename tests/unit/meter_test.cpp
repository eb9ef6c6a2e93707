#include "energy/meter.hpp"

#include <cstdint>
#include <fstream>
#include <random>

#include "core/error.hpp"
#include "energy/baselines.hpp"
#include "energy/nvml.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

constexpr double kJoulesPerKwh = 3.6e6;

// 100 g/kWh, then 300, then a gap, then 200; one hour each from instant 0.
Signal hours() {
  Signal signal;
  signal.step_s = 3600;
  signal.times_unix_s = {0, 3600, 4 * 3600};
  signal.values = {100, 300, 200};
  return signal;
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text << "\n";
}

// A counter that a test turns.
struct FakeCounter final : EnergyCounter {
  struct Dial {
    std::optional<double> joules = 0;
    double range_j = 0;
  };
  FakeCounter(Component part, std::shared_ptr<Dial> source) : part_(part), dial(std::move(source)) {}
  std::string name() const override { return "fake"; }
  Component component() const override { return part_; }
  double range_j() const override { return dial->range_j; }
  std::optional<double> read_j() override { return dial->joules; }
  Component part_;
  std::shared_ptr<Dial> dial;
};

double power_of(const EnergySample& sample, Component component) {
  return sample.power_w[static_cast<std::size_t>(component)];
}

EnergyFlow declared(Phase phase, double from, double to, double power_w, double pue = 1) {
  EnergyFlow flow;
  flow.phase = phase;
  flow.from_unix_s = from;
  flow.to_unix_s = to;
  flow.power_w[static_cast<std::size_t>(Component::node)] = power_w;
  flow.power_w[static_cast<std::size_t>(Component::facility)] = power_w * (pue - 1);
  flow.declared = true;
  return flow;
}

}  // namespace

TEST_CASE("energy is split at samples, gaps and windows") {
  const Signal signal = hours();
  const std::vector<Window> windows = {{1800, 5400}, {14400, 18000}};
  EnergyLedger ledger;
  ledger.add(Phase::solo, 5 * kJoulesPerKwh, 0, 5 * 3600, &signal, windows);  // 1 kW
  CHECK(ledger.energy_kwh() == Approx(5));
  CHECK(ledger.phase_kwh(Phase::solo) == Approx(5));
  CHECK(ledger.inside_kwh() == Approx(2));
  CHECK(ledger.outside_kwh() == Approx(3));
  CHECK(ledger.inside_g() == Approx(0.5 * 100 + 0.5 * 300 + 200));
  CHECK(ledger.outside_g() == Approx(0.5 * 100 + 0.5 * 300));
  CHECK(ledger.unknown_kwh() == Approx(2));  // in the gap: in no emissions
  CHECK(ledger.emissions_g() == Approx(600));
}

TEST_CASE("without a signal the intensity is unknown, not zero") {
  EnergyLedger ledger;
  ledger.add(Phase::federated, kJoulesPerKwh, 0, 3600, nullptr, {});
  CHECK(ledger.emissions_g() == 0);
  CHECK(ledger.unknown_kwh() == Approx(1));
  CHECK(ledger.outside_kwh() == Approx(1));
}

TEST_CASE("energy of one instant belongs to the window it lies in") {
  const Signal signal = hours();
  EnergyLedger ledger;
  ledger.add(Phase::checkpoint, kJoulesPerKwh, 1800, 1800, &signal, {{1800, 5400}});
  CHECK(ledger.inside_kwh() == Approx(1));
  CHECK(ledger.inside_g() == Approx(100));
}

TEST_CASE("a run in pieces, through checkpoints, equals a run in one, to the last millijoule and microgram") {
  const Signal marginal = hours();
  Signal average = hours();
  average.times_unix_s = {100, 5000, 9999};
  const std::vector<Window> windows = {{700, 4000}, {9000, 9100}};
  const Grid grid{&marginal, &average, &windows};
  const auto seed = GENERATE(1u, 2u, 3u);
  INFO("seed " << seed);
  std::mt19937 random(seed);
  EnergyLedger whole, pieces;
  whole.add(declared(Phase::solo, 1780000000.125, 1780011111.7, 2024.3, 1.17), grid);
  for (double now = 1780000000.125; now < 1780011111.7;) {
    const double next = std::min(1780011111.7, now + std::exponential_distribution<>(0.02)(random));
    pieces.add(declared(Phase::solo, now, next, 2024.3, 1.17), grid);
    pieces = EnergyLedger::from_map(pieces.to_map());
    now = next;
  }
  CHECK(pieces.to_map() == whole.to_map());
  // Within the signal, where the grams are known too.
  EnergyLedger known, known_pieces;
  known.add(declared(Phase::federated, 3.3, 12345.6, 2024.3, 1.17), grid);
  for (double now = 3.3; now < 12345.6;) {
    const double next = std::min(12345.6, now + std::exponential_distribution<>(0.05)(random));
    known_pieces.add(declared(Phase::federated, now, next, 2024.3, 1.17), grid);
    now = next;
  }
  CHECK(known.emissions_ug(Account::marginal) > 0);
  CHECK(known_pieces.to_map() == known.to_map());
}

TEST_CASE("all divisions of a ledger add up to its total, for measured and modelled energy") {
  const Signal signal = hours();
  const std::vector<Window> windows = {{700, 4000}};
  EnergyLedger ledger;
  EnergyFlow flow = declared(Phase::solo, 12.5, 15000.25, 811.7, 1.3);
  flow.declared = false;
  flow.power_w = {700.1, 120.7, 33.3, 0.9, 211.1};
  flow.measured = {true, true, false, false, false};
  ledger.add(flow, {&signal, nullptr, &windows});
  flow.phase = Phase::drain;
  flow.known = false;
  ledger.add(flow, {&signal, &signal, &windows});
  std::int64_t phases = 0, components = 0, grams = 0;
  for (std::size_t i = 0; i < kPhases; ++i) {
    phases += ledger.phase_mj(static_cast<Phase>(i));
    grams += ledger.phase_ug(static_cast<Phase>(i), Account::marginal);
  }
  for (std::size_t i = 0; i < kComponents; ++i) components += ledger.component_mj(static_cast<Component>(i));
  CHECK(phases == ledger.total_mj());
  CHECK(components == ledger.total_mj());
  CHECK(grams == ledger.emissions_ug(Account::marginal));
  CHECK(ledger.measured_mj() == ledger.component_mj(Component::gpu) + ledger.component_mj(Component::cpu));
  CHECK(ledger.energy_kwh() == Approx(2 * 14987.75 * 1066.1 / 3.6e6));
  CHECK(ledger.unmetered_s() == Approx(14987.75));
  CHECK(ledger.unknown_mj(Account::average) > ledger.unknown_mj(Account::marginal));
  CHECK(EnergyLedger::from_map(ledger.to_map()) == ledger);
  EnergyLedger twice = ledger;
  twice += ledger;
  CHECK(twice.total_mj() == 2 * ledger.total_mj());
  CHECK(twice.since(ledger) == ledger);
}

TEST_CASE("a ledger from a file that does not add up is refused") {
  EnergyLedger ledger;
  ledger.add(Phase::solo, 1e6, 0, 100, nullptr, {});
  auto values = ledger.to_map();
  values["total_mj"] += 1;
  CHECK_THROWS_WITH(EnergyLedger::from_map(values),
                    "energy ledger: total_mj = 1000000001, but phases add up to 1000000000 and components to "
                    "1000000000");
  values.erase("total_mj");
  CHECK_THROWS_WITH(EnergyLedger::from_map(values), "energy ledger: no value 'total_mj'");
  values = ledger.to_map();
  values["solo_kwh"] = 1;
  CHECK_THROWS_WITH(EnergyLedger::from_map(values), "energy ledger: unknown value 'solo_kwh'");
}

TEST_CASE("declared power is marked as modelled and includes the PUE") {
  SiteConfig site;
  site.train_power_w = 2000;
  site.idle_power_w = 500;
  site.pue = 1.25;
  const auto meter = make_meter(site, false);
  CHECK(meter->source() == "modelled");
  const EnergySample training = meter->sample(Phase::solo, 10), idle = meter->sample(Phase::idle, 10);
  CHECK(power_of(training, Component::node) == 2000);
  CHECK(power_of(training, Component::facility) == Approx(500));
  CHECK(power_of(idle, Component::node) == 500);
  CHECK(training.declared);
  CHECK(training.known);
  EnergyLedger ledger;
  ledger.add(training.flow(Phase::solo, 0, 3600), {});
  CHECK(ledger.energy_kwh() == Approx(2.5));
  CHECK(ledger.measured_mj() == 0);
}

TEST_CASE("a job on some of the site's nodes is booked at their share of the declared power") {
  SiteConfig site;
  site.nodes = 4;
  site.train_power_w = 2000;
  site.idle_power_w = 500;
  const auto nodes = GENERATE(values<std::string>({"", "1", "3", "4", "8", "none", "-2"}));
  INFO("SLURM_JOB_NUM_NODES " << nodes);
  setenv("SLURM_JOB_NUM_NODES", nodes.c_str(), 1);
  const SiteConfig own = site_of_job(site);
  unsetenv("SLURM_JOB_NUM_NODES");
  const int expected = nodes == "1" ? 1 : nodes == "3" ? 3 : 4;
  CHECK(own.nodes == expected);
  CHECK(power_of(make_meter(own, false)->sample(Phase::solo, 1), Component::node) == 500 * expected);
  CHECK(power_of(make_meter(own, false)->sample(Phase::idle, 1), Component::node) == 125 * expected);
  CHECK(site_of_job(site).nodes == 4);
}

TEST_CASE("without counter and declaration energy is unknown, not zero") {
  const auto meter = make_meter(SiteConfig{}, false);
  CHECK(meter->source() == "unknown");
  EnergyLedger ledger;
  ledger.add(meter->sample(Phase::solo, 10).flow(Phase::solo, 0, 10), {});
  CHECK(ledger.total_mj() == 0);
  CHECK(ledger.unmetered_s() == Approx(10));
}

TEST_CASE("RAPL counts packages and memory once, across a wrap, and goes on when it cannot be read") {
  const TemporaryFolder folder;
  const auto domain = [&](const std::string& zone, const std::string& name, const std::string& energy_uj) {
    write(folder.path() / zone / "name", name);
    write(folder.path() / zone / "max_energy_range_uj", "10000000");
    write(folder.path() / zone / "energy_uj", energy_uj);
  };
  domain("intel-rapl:0", "package-0", "9000000");
  domain("intel-rapl:0:0", "core", "0");
  domain("intel-rapl:0:2", "dram", "1000000");
  domain("intel-rapl:1", "psys", "0");
  SiteConfig site;
  site.pue = 2;
  MeteredNode node;
  node.powercap_folder = folder.path().string();
  const auto meter = make_meter(site, true, node);
  CHECK(meter->source() == "rapl");
  write(folder.path() / "intel-rapl:0/energy_uj", "500000");  // wrapped: 1.5 J
  write(folder.path() / "intel-rapl:0:0/energy_uj", "5000000");
  write(folder.path() / "intel-rapl:0:2/energy_uj", "1250000");
  write(folder.path() / "intel-rapl:1/energy_uj", "5000000");
  const EnergySample first = meter->sample(Phase::solo, 0.5);
  CHECK(power_of(first, Component::cpu) == Approx(3.5));
  CHECK(power_of(first, Component::facility) == Approx(3.5));
  CHECK(first.measured[static_cast<std::size_t>(Component::cpu)]);
  CHECK(power_of(meter->sample(Phase::solo, 0.5), Component::cpu) == 0);
  std::filesystem::remove(folder.path() / "intel-rapl:0/energy_uj");
  write(folder.path() / "intel-rapl:0:2/energy_uj", "2250000");
  const EnergySample after =
      meter->sample(Phase::solo, 1);  // the package's last power was 0 W, the memory used 1 J
  CHECK(power_of(after, Component::cpu) == Approx(1));
  CHECK(after.known);
  site.train_power_w = 1;
  CHECK(make_meter(site, false, node)->source() == "modelled");  // replayed time
  site.meter = "model";
  CHECK(make_meter(site, true, node)->source() == "modelled");
  site.meter = "counters";
  CHECK_THROWS_WITH(
      make_meter(site, false, node),
      "site.meter = counters: replayed time has no counters; set clock.mode = real or site.meter = "
      "model");
  node.powercap_folder = (folder.path() / "nothing").string();
  CHECK_THROWS_WITH(make_meter(site, true, node), "site.meter = counters: " + node.powercap_folder +
                                                      " has no counter of a CPU package that may be read");
}

TEST_CASE("a counter's wrap, reset and failure are told apart") {
  const auto dial = std::make_shared<FakeCounter::Dial>();
  dial->joules = 900;
  dial->range_j = 1000;
  CounterTracker tracker(std::make_unique<FakeCounter>(Component::gpu, dial));
  using Kind = CounterTracker::Kind;
  dial->joules = 950;
  auto advance = tracker.advance(1);
  CHECK(advance.joules == 50);
  CHECK(advance.kind == Kind::measured);
  dial->joules = 20;  // 70 J through the wrap in a second
  advance = tracker.advance(1);
  CHECK(advance.joules == 70);
  CHECK(advance.kind == Kind::measured);
  dial->range_j = 1e6;  // a wrap would mean a million joules in 2 s: it was reset; 70 W stand in
  dial->joules = 1;
  advance = tracker.advance(2);
  CHECK(advance.joules == 140);
  CHECK(advance.kind == Kind::estimated);
  dial->joules = 31;
  CHECK(tracker.advance(1).joules == 30);
  dial->joules.reset();
  advance = tracker.advance(3);
  CHECK(advance.joules == 90);
  CHECK(advance.kind == Kind::estimated);
  dial->joules = 500;
  CHECK(tracker.advance(1).kind == Kind::estimated);  // from when it could not be read
  dial->joules = 510;
  CHECK(tracker.advance(1).kind == Kind::measured);
  const auto never = std::make_shared<FakeCounter::Dial>();
  never->joules.reset();
  CounterTracker blind(std::make_unique<FakeCounter>(Component::gpu, never));
  CHECK(blind.advance(1).kind == Kind::unknown);
}

TEST_CASE("the rest of a node and the building are added to what counters see") {
  const auto gpu = std::make_shared<FakeCounter::Dial>(), cpu = std::make_shared<FakeCounter::Dial>();
  SiteConfig site;
  site.host_share = 0.2;
  site.pue = 1.5;
  std::vector<std::unique_ptr<EnergyCounter>> counters;
  counters.push_back(std::make_unique<FakeCounter>(Component::gpu, gpu));
  counters.push_back(std::make_unique<FakeCounter>(Component::cpu, cpu));
  const auto meter = make_counter_meter(site, std::move(counters), true);
  CHECK(meter->source() == "nvml+rapl");
  gpu->joules = 6000;
  cpu->joules = 2000;
  const EnergySample sample = meter->sample(Phase::solo, 10);
  CHECK(power_of(sample, Component::gpu) == 600);
  CHECK(power_of(sample, Component::cpu) == 200);
  CHECK(power_of(sample, Component::rest) == Approx(200));  // a fifth of 1000 W
  CHECK(power_of(sample, Component::facility) == Approx(500));
  CHECK_FALSE(sample.measured[static_cast<std::size_t>(Component::rest)]);
  CHECK(sample.known);
  // GPUs alone, and nobody says what the rest draws: known only as a lower bound.
  site.host_share.reset();
  std::vector<std::unique_ptr<EnergyCounter>> alone;
  alone.push_back(std::make_unique<FakeCounter>(Component::gpu, gpu));
  const auto bound = make_counter_meter(site, std::move(alone), true);
  CHECK(bound->source() == "nvml");
  CHECK_FALSE(bound->sample(Phase::solo, 1).known);
  site.host_share = 1;
  CHECK_THROWS_WITH(make_counter_meter(site, {}, true),
                    "site.host-share = 1: must be at least 0 and below 1");
}

TEST_CASE("a machine without NVIDIA's library has no GPU counters, and says why") {
  std::string reason;
  CHECK(Nvml::open(&reason, "libnothing-of-that-name.so.1") == nullptr);
  CHECK(reason == "libnothing-of-that-name.so.1 is not installed");
  CHECK(Nvml::open(&reason, "libm.so.6") == nullptr);
  CHECK(reason == "libm.so.6 has no nvmlInit_v2");
  CHECK(find_nvml({}).empty());
}

TEST_CASE("the lone site that waits for a while uses its windows only") {
  const Signal signal = hours();
  // 1 kW: half an hour at 100, then an hour in the window at 200.
  const auto lone = wait_awhile(signal, {{1800, 3600}, {14400, 18000}}, 0, 1.5, 1000);
  REQUIRE(lone);
  CHECK(lone->emissions_g == Approx(250));
  CHECK(lone->end_unix_s == Approx(18000));
  CHECK_FALSE(wait_awhile(signal, {{1800, 3600}}, 0, 1.5, 1000));   // the windows end before
  CHECK_FALSE(wait_awhile(signal, {{5400, 14400}}, 0, 1.5, 1000));  // the intensity is unknown in the gap
}

TEST_CASE("the always-on baseline integrates the signal from its start") {
  const Signal signal = hours();
  // 1 kW for 1.5 h: 1 kWh at 100 and 0.5 kWh at 300.
  CHECK(always_on_emissions_g(signal, 0, 1.5, 1000).value() == Approx(250));
  CHECK(always_on_emissions_g(signal, 1800, 1, 1000).value() == Approx(200));
  CHECK_FALSE(always_on_emissions_g(signal, 0, 2.5, 1000));    // runs into the gap
  CHECK_FALSE(always_on_emissions_g(signal, 14400, 2, 1000));  // and past the end
  CHECK_FALSE(always_on_emissions_g(signal, 0, 1, 0));
}
