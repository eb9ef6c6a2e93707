#include "energy/meter.hpp"

#include <fstream>

#include "core/error.hpp"
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

TEST_CASE("a ledger in pieces equals a ledger in one, and survives a checkpoint exactly") {
  const Signal signal = hours();
  const std::vector<Window> windows = {{700, 4000}};
  EnergyLedger whole, pieces;
  whole.add(Phase::solo, 1e6, 0, 10000, &signal, windows);
  for (int i = 0; i < 100; ++i) {
    pieces.add(Phase::solo, 1e4, i * 100, (i + 1) * 100, &signal, windows);
    pieces = EnergyLedger::from_map(pieces.to_map());
  }
  CHECK(pieces.inside_g() == Approx(whole.inside_g()));
  CHECK(pieces.outside_kwh() == Approx(whole.outside_kwh()));
  CHECK(pieces.unknown_kwh() == Approx(whole.unknown_kwh()));
  CHECK(EnergyLedger::from_map(pieces.to_map()).to_map() == pieces.to_map());
  auto values = pieces.to_map();
  values.erase("drain_kwh");
  CHECK_THROWS_WITH(EnergyLedger::from_map(values), "energy ledger: no value 'drain_kwh'");
}

TEST_CASE("declared power is marked as modelled and includes the PUE") {
  SiteConfig site;
  site.train_power_w = 2000;
  site.idle_power_w = 500;
  site.pue = 1.25;
  const auto meter = make_meter(site, false);
  CHECK(meter->source() == "modelled");
  CHECK(meter->joules_since_last(Phase::solo, 10) == Approx(25000));
  CHECK(meter->joules_since_last(Phase::idle, 10) == Approx(6250));
}

TEST_CASE("RAPL counts packages and memory once, across a wrap") {
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
  const auto meter = make_meter(site, true, folder.path().string());
  CHECK(meter->source() == "rapl");
  write(folder.path() / "intel-rapl:0/energy_uj", "500000");  // wrapped: 1.5 J
  write(folder.path() / "intel-rapl:0:0/energy_uj", "5000000");
  write(folder.path() / "intel-rapl:0:2/energy_uj", "1250000");
  write(folder.path() / "intel-rapl:1/energy_uj", "5000000");
  CHECK(meter->joules_since_last(Phase::solo, 1e9) == Approx(3.5));
  CHECK(meter->joules_since_last(Phase::solo, 1e9) == 0);
  std::filesystem::remove(folder.path() / "intel-rapl:0/energy_uj");
  CHECK_THROWS_AS(meter->joules_since_last(Phase::solo, 1), Error);
  site.train_power_w = 1;
  CHECK(make_meter(site, false, folder.path().string())->source() == "modelled");  // replayed time
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
