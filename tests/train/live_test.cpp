// A site whose signals are live: what it saw is in its report, and counted.
#include <nlohmann/json.hpp>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"
#include "tests/unit/stand_in.hpp"

using namespace spillway;
using nlohmann::json;
using runs::operator+;

TEST_CASE("live marginal, average and excess signals: gate, emissions by both accounts, and the report") {
  const StandIn server;
  server.get("/set?average=300");
  server.get("/set?excess=5");
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  auto arguments = runs::Arguments{"train"} + runs::small_model(folder.path() / "data") +
                   runs::Arguments{"--run.dir",
                                   (folder.path() / "run").string(),
                                   "--train.steps",
                                   "100000",
                                   "--site.train-power",
                                   "2000",
                                   "--site.telemetry-every",
                                   "100ms",
                                   "--gate.open-below",
                                   "100",
                                   "--gate.average-below",
                                   "400"};
  for (const char* section : {"signal", "average", "excess"}) {
    const std::string own = section, key = "--" + own + ".";
    arguments = arguments +
                runs::Arguments{key + "provider", "http",
                                key + "url",      server.url(own == "signal" ? "/value" : "/value?" + own),
                                key + "pointer",  "/grid/0/mw",
                                key + "unit",     own == "excess" ? "kW" : "g/kWh",
                                key + "poll",     "100ms"};
  }
  Process process(runs::command(1, arguments, folder.path() / "log"));
  const auto energy_log = folder.path() / "run" / "local" / "energy.jsonl";
  for (int tries = 0; tries < 1500 && runs::read_file(energy_log).find("\"solo\"") == std::string::npos;
       ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  server.get("/set?excess=1.9");  // less than the site draws: its window closes
  REQUIRE(process.wait(60));
  INFO(runs::read_file(folder.path() / "log"));
  CHECK(*process.status() == 75);

  const json document = runs::report(folder.path() / "run");
  const json& site = document.at("sites").at(0);
  const json& signal = site.at("signal");
  CHECK(signal.at("live") == true);
  CHECK(signal.at("source") == "http");
  CHECK(signal.at("points").at(0).at(1) == 50.0);
  CHECK(signal.at("average").at("points").at(0).at(1) == 300.0);
  CHECK(signal.at("excess").at("points").at(0).at(1) == 0.005);
  REQUIRE(signal.at("windows").size() == 1);
  CHECK(signal.at("windows").at(0).at(1).get<double>() >
        signal.at("windows").at(0).at(0).get<double>() + 0.5);
  const json& energy = site.at("energy");
  // What was used before the first answer came is under an unknown intensity.
  for (const auto& [account, intensity] : {std::pair("marginal", 50.0), std::pair("average", 300.0)}) {
    const json& emissions = energy.at("accounts").at(account);
    const double known_kwh =
        energy.at("energy_kwh").get<double>() - emissions.at("unknown_kwh").get<double>();
    CHECK(known_kwh > 0);
    CHECK(emissions.at("emissions_g").get<double>() == Approx(intensity * known_kwh).epsilon(1e-4));
  }
  CHECK(runs::run(0, {"report", (folder.path() / "run").string()}, folder.path()).status == 0);
}
