// What `spillway simulate` and `spillway plan` start from: sites with signals, costs and a goal.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "energy/policy.hpp"
#include "energy/simulate.hpp"
#include "energy/site_windows.hpp"

namespace spillway::cli {

// One site, with the signals that its model points to.
struct ScenarioSite {
  Config config;
  SiteSignals signals;
  std::unique_ptr<Signal> emissions;   // where it is another one
  std::unique_ptr<Forecast> forecast;  // for Policy::forecast
  SiteModel model;
};

struct NamedOutcome {
  std::string name;
  RunOutcome outcome;
};

class Scenario {
 public:
  // Sites are local.sites, else the one site of the configuration. `with_forecasts`: also those of simulate.forecast.
  // plan_horizon_s: for a plan, which starts at clock.start, else where the forecasts of [forecast] start, else with the
  // signals; more than 0: it is so long, and signals that end before go on as repeated_until() says.
  // Throws Error(usage) where costs or the goal are missing or the signals share no time.
  Scenario(CommandSpec& spec, const Arguments& arguments, const Config& config, bool with_forecasts,
           std::optional<double> plan_horizon_s = std::nullopt);

  const RunModel& run() const { return run_; }
  const std::deque<ScenarioSite>& sites() const { return sites_; }
  // The windows of each site under a policy, and the run in them. An oracle has no delays, grace or losses.
  std::vector<std::vector<Window>> windows(Policy policy) const;
  RunOutcome simulate(Policy policy) const;
  // What the policy's run is compared with: each site always on (by its name), each pair always on ("A+B"), each site
  // alone under the policy ("wait-awhile A"), and "random windows", a typical one of kRandomDraws by emissions.
  std::vector<NamedOutcome> baselines(Policy policy) const;
  // The same sites with other thresholds: open below, closing `hysteresis` above, for a minimum length.
  void set_gate(double open_below, double hysteresis, double min_length_s);

  // Another signal for the gate of one site, and for its emissions where they are the same.
  void set_signal(std::size_t site, Signal signal);
  // What Policy::forecast goes by at one site.
  void set_forecast(std::size_t site, Signal forecast);

  static constexpr int kRandomDraws = 21;

 private:
  void look_ahead(ScenarioSite* site);
  void add_site(const Config& config, bool takes_part, bool with_forecasts);
  RunOutcome always_on_run(const std::vector<const ScenarioSite*>& sites) const;
  NamedOutcome random_run(Policy policy) const;

  RunModel run_;
  // That take part, and that do not. Models and forecasts point to the signals beside them: a deque leaves them in place.
  std::deque<ScenarioSite> sites_, compared_;
  std::uint64_t seed_ = 1;
  std::optional<double> plan_horizon_s_;
};

}  // namespace spillway::cli
