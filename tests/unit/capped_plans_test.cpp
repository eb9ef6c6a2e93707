// Power caps in simulations and plans: a capped site trains in proportion to what the cap leaves above idle power.
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"

namespace {

// One day under 50 g/kWh; excess power of `excess_kw` in its second half only.
class Day {
 public:
  explicit Day(double excess_kw = 0) {
    std::ofstream signal(folder_.path() / "signal.csv"), excess(folder_.path() / "excess.csv");
    signal << "point_time,here\n";
    excess << "point_time,here (kW)\n";
    for (int hour = 0; hour < 24; ++hour) {
      const std::string stamp =
          "2026-03-01T" + std::string(hour < 10 ? "0" : "") + std::to_string(hour) + ":00:00Z,";
      signal << stamp << "50\n";
      excess << stamp << (hour < 12 ? 0 : excess_kw) << "\n";
    }
  }

  // 2000 W of training and 500 W of idle power, 1e6 tokens/s, no costs.
  nlohmann::json run(const std::string& command, std::vector<std::string> more) const {
    std::vector<std::string> arguments = {command,
                                          "--signal.file",
                                          (folder_.path() / "signal.csv").string(),
                                          "--signal.region",
                                          "here",
                                          "--gate.open-below",
                                          "100",
                                          "--gate.min-length",
                                          "0",
                                          "--site.train-power",
                                          "2000",
                                          "--site.idle-power",
                                          "500",
                                          "--simulate.tokens-per-s",
                                          "1e6",
                                          "--simulate.tokens",
                                          "1.8e10",
                                          "--simulate.start-delay",
                                          "0s",
                                          "--format",
                                          "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_spillway(arguments);
    INFO(outcome.output);
    REQUIRE(outcome.status == 0);
    return nlohmann::json::parse(outcome.output.substr(outcome.output.find('{')));
  }
  std::string excess() const { return (folder_.path() / "excess.csv").string(); }

 private:
  TemporaryFolder folder_;
};

double number(const nlohmann::json& object, const char* name) { return object.at(name).get<double>(); }

}  // namespace

TEST_CASE("a cap half way between idle and full power doubles the time") {
  const Day day;
  const std::string command = GENERATE("simulate", "plan");
  INFO(command);
  const auto free = day.run(command, {});
  CHECK(number(free, "runtime_h") == Approx(5));  // 1.8e10 tokens at 1e6 per second
  CHECK(number(free, "energy_kwh") == Approx(10));
  CHECK(number(free, "emissions_kg") == Approx(0.5));
  const auto capped = day.run(command, {"--site.power-cap", "1250W"});
  CHECK(number(capped, "runtime_h") == Approx(10));
  CHECK(number(capped, "energy_kwh") == Approx(12.5));
  CHECK(number(capped, "emissions_kg") == Approx(0.625));
  const auto wide = day.run(command, {"--site.power-cap", "3kW"});
  CHECK(number(wide, "runtime_h") == Approx(number(free, "runtime_h")));
}

TEST_CASE("a cap that follows the excess trains in its hours only, at the least power it runs with") {
  const Day day(1.25);
  const auto run = day.run("simulate", {"--site.power-cap", "excess", "--site.min-power", "1250W",
                                        "--excess.file", day.excess(), "--excess.region", "here"});
  CHECK(number(run, "runtime_h") == Approx(22));  // from 12:00 on, at half speed
  CHECK(number(run, "energy_kwh") == Approx(12.5));
  const Day poor(1.2);
  const auto none = poor.run("simulate", {"--site.power-cap", "excess", "--site.min-power", "1250W",
                                          "--excess.file", poor.excess(), "--excess.region", "here"});
  CHECK(number(none, "tokens") == 0);
}
