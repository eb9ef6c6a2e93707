// The gate over live signals, against a stand-in server on this machine.
#include "energy/live_gate.hpp"

#include <chrono>
#include <fstream>
#include <thread>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/unit/stand_in.hpp"

using namespace spillway;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

SignalConfig served(const StandIn& server, const char* section, const std::string& path, const char* unit) {
  SignalConfig config = SignalConfig::of(section);
  config.provider = "http";
  config.url = server.url(path);
  config.pointer = "/grid/0/mw";
  config.unit = unit;
  config.poll_s = 0.05;
  config.hold_s = 60;
  return config;
}

bool becomes(LiveGate& gate, bool open) {
  for (int tries = 0; tries < 1000; ++tries) {
    if (gate.open(now()) == open) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

std::string refusal(const Config& config) {
  try {
    LiveGate gate(config);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "nothing went wrong";
}

}  // namespace

TEST_CASE("a live gate opens, survives an outage for a while, closes, and opens again") {
  const StandIn server;
  Config config;
  config.signal = served(server, "signal", "/value", "g/kWh");
  config.gate.open_below = 100;
  LiveGate gate(config);
  CHECK(gate.open(now()));
  server.get("/set?400");
  CHECK(becomes(gate, false));
  server.get("/set?20");
  CHECK(becomes(gate, true));
  server.get("/set?down");
  const double asked = now();
  CHECK(gate.open(asked + 30));        // held
  CHECK_FALSE(gate.open(asked + 90));  // no longer
  REQUIRE(gate.windows().size() == 2);
  CHECK(gate.windows()[0].close_unix_s <= gate.windows()[1].open_unix_s);
  CHECK(gate.windows()[1].close_unix_s == asked + 90);
}

TEST_CASE("live average intensity and live excess power close the gate, too") {
  const StandIn server;
  server.get("/set?average=300");
  server.get("/set?excess=5000");
  Config config;
  config.signal = served(server, "signal", "/value", "g/kWh");
  config.average = served(server, "average", "/value?average", "g/kWh");
  config.excess = served(server, "excess", "/value?excess", "kW");
  config.gate.open_below = 100;
  config.gate.average_below = 400;
  config.site.train_power_w = 4e6;
  config.site.nodes = 4;
  LiveGate gate(config);
  CHECK(becomes(gate, true));
  const LiveValues values = gate.values_at(now());
  CHECK(values == LiveValues{true, 50.0, std::nullopt, 300.0, 5.0, "g/kWh"});
  server.get("/set?average=450");
  CHECK(becomes(gate, false));
  server.get("/set?average=399");
  CHECK(becomes(gate, true));
  server.get("/set?excess=999");  // not one node of four
  CHECK(becomes(gate, false));
  server.get("/set?excess=1000");
  CHECK(becomes(gate, true));
  CHECK(gate.average()->unit == "g/kWh");
  CHECK_FALSE(gate.emissions());
}

TEST_CASE("a live gate keeps its grace period, and what is unknown beside it closes it") {
  const StandIn server;
  Config config;
  config.signal = served(server, "signal", "/value", "g/kWh");
  config.average = served(server, "average", "/value?average", "MW");  // no intensity: never known
  config.gate.open_below = 100;
  {
    Config unlimited = config;
    unlimited.gate.grace_s = 1000;
    LiveGate gate(unlimited);
    CHECK(becomes(gate, true));
    server.get("/set?400");
    for (int tries = 0; tries < 1000 && gate.values_at(now()).gate != 400.0; ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const double closed = now();
    CHECK(gate.open(closed));
    CHECK(gate.open(closed + 900));
    CHECK_FALSE(gate.open(closed + 1001));
    CHECK_FALSE(gate.values_at(closed).average);
  }
  server.get("/set?50");
  config.gate.average_below = 400;
  LiveGate gate(config);
  CHECK_FALSE(gate.open(now()));
}

TEST_CASE("a signal known beforehand beside a live one") {
  const StandIn server;
  const TemporaryFolder folder;
  Config config;
  config.signal.file = (folder.path() / "known.csv").string();
  std::ofstream(config.signal.file) << "point_time,here\n2026-01-01T00:00:00Z,10\n2026-01-01T01:00:00Z,500\n"
                                       "2026-01-01T02:00:00Z,10\n";
  config.average = served(server, "average", "/value", "g/kWh");
  config.gate.open_below = 100;
  CHECK(has_live_signal(config));
  LiveGate gate(config);
  constexpr double kStart = 1767225600;  // 2026-01-01
  CHECK(gate.open(kStart));
  CHECK_FALSE(gate.open(kStart + 3600));
  CHECK(gate.open(kStart + 7200));
  CHECK_FALSE(gate.open(kStart + 3 * 3600));  // beyond the file: unknown
}

TEST_CASE("a live gate that cannot be is refused") {
  Config config;
  config.signal.provider = "uk-carbon-intensity";
  config.gate.percentile = 20;
  config.clock.mode = "replay";
  CHECK(refusal(config) == "signal.provider: a live signal needs clock.mode = real, not replay");
  config.clock.mode = "real";
  CHECK(refusal(config) == "gate.percentile of a live signal needs its history in signal.file");
  config.gate.average_below = 100;
  CHECK(refusal(config) == "site local: gate.average-below needs average.file or average.provider");
  config = {};
  config.average.provider = "uk-carbon-intensity";
  CHECK(refusal(config) == "site local: live signals beside it need signal.file or signal.provider");
  config = {};
  config.gate.open_below = 1;
  config.signal.provider = "http";
  config.signal.url = "http://127.0.0.1:9/";
  config.signal.unit = "g/kWh";
  config.average.provider = "watttime";
  CHECK(refusal(config) == "average.provider = watttime: needs average.key-file or average.key-env");
}
