// A site's surroundings as the leader sees them: the clock, the signal and its windows, and the energy they cost.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/live_gate.hpp"
#include "energy/meter.hpp"
#include "energy/power_cap.hpp"
#include "energy/signal.hpp"

namespace spillway {

// Sums over a site's nodes besides the leader's, in a form that travels between ranks.
struct RemoteEnergy {
  std::array<double, kComponents> measured_j = {}, modelled_j = {};
  double unmetered_nodes = 0;  // that have no counter of all that computes
  std::span<double> values() { return {measured_j.data(), 2 * kComponents + 1}; }
};
static_assert(sizeof(RemoteEnergy) == (2 * kComponents + 1) * sizeof(double));

// The meter of the leader's node, when it began, and whether the site has other nodes with meters of their own.
struct NodeMeter {
  std::unique_ptr<EnergyMeter> meter;
  double since_s = 0;  // monotonic
  bool other_nodes = false;
};

class SiteContext {
 public:
  // Reads the signals' files, or asks their providers; with neither for [signal] the window is always open.
  explicit SiteContext(const Config& config);

  // Energy is counted from meter.since_s on, in phase startup. ledger: what was counted before.
  // clock_known: false while the hub has not told the run's clock; until set_clock() the time counts as start-up.
  void start_metering(NodeMeter meter, const EnergyLedger& ledger, bool clock_known);
  // Energy of the site's other nodes since the last call. It is booked over the time since then, under the phases that
  // ran, each by its share of that time. Where the leader's node goes by a declared power, that is the whole site's.
  void add_remote(const RemoteEnergy& remote);

  // Replaces the clock, e.g. by the hub's.
  void set_clock(const ClockSpec& clock);
  double now_unix_s() const { return clock_.now_unix_s(); }

  bool window_open() const;
  // Also outside windows with gate.enforce off: then whoever started this process ends it. Never without power: where the
  // power is capped by an excess that is unknown or not more than the idle power.
  bool may_train() const;
  // The most that the site may use now, W at its meter; nothing where site.power-cap is not set, or its signal unknown.
  std::optional<double> power_cap_w() const;
  // Seconds of pause per second of training that keep the cap, by the powers metered so far; 0 without a cap.
  double pause_ratio() const;
  // Simulated; nothing without a signal, while closed, or where the signal is live: its future is not known.
  std::optional<double> window_left_s() const;
  std::optional<const Window*> next_window() const;   // nothing without a known signal; null after the last
  std::optional<double> intensity_g_per_kwh() const;  // that emissions are counted with
  std::optional<LiveValues> live_values() const;      // nothing where all signals are known beforehand

  // Books the energy since the last call under the phase that was running, and goes on in `phase`.
  void enter(Phase phase);
  // The same, staying in the phase.
  const EnergyLedger& energy();
  // The instant up to which energy() has counted; now, where it counts nothing.
  double energy_until_unix_s() const;
  const EnergyLedger& ledger() const { return ledger_; }  // as of the last call of energy()
  Phase phase() const { return phase_; }
  const std::string& energy_source() const { return source_; }

 private:
  void book(const EnergyFlow& flow);
  void weigh(Phase phase, const EnergyFlow& flow, double seconds);

  Config config_;
  ClockSpec clock_;
  std::optional<Signal> signal_;     // of the gate
  std::unique_ptr<LiveGate> live_;   // instead of the signals here, where any of them is live
  std::optional<Signal> emissions_;  // where emissions are counted by another one
  std::optional<Signal> average_, excess_;
  std::vector<Window> windows_;
  struct Stretch {
    Phase phase;
    double from_unix_s, to_unix_s;
  };
  std::vector<Stretch> since_remote_;  // what was booked since the other nodes were heard
  RemoteEnergy pending_;               // not booked yet
  bool other_nodes_ = false;
  bool clock_known_ = false;
  std::unique_ptr<EnergyMeter> meter_;
  PowerBalance balance_;
  std::string source_;
  EnergyLedger ledger_;
  Phase phase_ = Phase::startup;
  double booked_until_unix_s_ = 0;
};

}  // namespace spillway
