// Event-driven replay of a run: sites, their windows and costs, until the tokens are trained.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "energy/gate.hpp"
#include "energy/meter.hpp"
#include "energy/signal.hpp"

namespace spillway {

// One site as the simulator knows it. Between events its power and speed are constant:
//   opens → startup for start_delay_s at idle power → trains at train power → signal closes → drains for grace_s at train
//   power, without tokens → off, or idle at idle power. A signal that reopens during the grace period needs no new start;
//   a window that closes during the startup ends it.
struct SiteModel {
  std::string name;
  const Signal* intensity = nullptr;  // for emissions; null: unknown
  const Signal* average = nullptr;    // average intensity, for emissions by it; null: none
  std::vector<Window> open;           // when the signal is open: energy in these is in-window
  double tokens_per_s = 0;
  double start_delay_s = 0;
  double grace_s = 0;
  double train_power_w = 0, idle_power_w = 0;  // at the site's meter
  double pue = 1;
  bool idle_outside = false;  // draws idle power outside windows
};

struct RunModel {
  double start_unix_s = 0;
  double end_unix_s = 0;  // of what the signals know: the run is cut there
  double tokens = 0;
  // Sites that train together lose this part of their time, in which they draw idle power.
  double round_loss = 0;
};

struct SiteOutcome {
  EnergyLedger energy;
  EnergyLedger by_average;  // the same energy under the average intensity; empty where there is none
  std::array<double, kPhaseNames.size()> phase_g = {};
  double tokens = 0;
  double solo_s = 0, federated_s = 0;
  int starts = 0;
};

struct RunOutcome {
  bool finished = false;  // else the signals ended before
  double runtime_s = 0;
  double tokens = 0;
  double solo_s = 0, federated_s = 0, paused_s = 0;  // of the run: one site trains, several, none
  std::vector<SiteOutcome> sites;                    // as in the call

  double energy_kwh() const;
  double emissions_g() const;
  double unknown_kwh() const;
  // By average intensities; nothing where a site has none or it was unknown.
  std::optional<double> average_g() const;
  double inside_kwh() const;
  double phase_kwh(Phase phase) const;
  double phase_g(Phase phase) const;
  int starts() const;
};

// windows[i]: when site i runs, without its grace period: disjoint and in order, as policy_windows() gives them. A window's
// part scales speed and power.
RunOutcome simulate(const std::vector<SiteModel>& sites, const std::vector<std::vector<Window>>& windows,
                    const RunModel& run);

// The whole span as one window: a site that is always on.
std::vector<Window> always_on(const RunModel& run);

// Windows of the same lengths at random places of the span: what choosing the hours is worth. draw: which of the many.
std::vector<Window> random_windows(const std::vector<Window>& windows, const RunModel& run,
                                   std::uint64_t seed, std::uint64_t draw);

}  // namespace spillway
