// A site's surroundings as the leader sees them: the clock, the signal and its windows, and the energy they cost.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/live_signal.hpp"
#include "energy/meter.hpp"
#include "energy/signal.hpp"

namespace spillway {

class SiteContext {
 public:
  // Reads the signal of [signal], or asks signal.provider for it; with neither the window is always open. ledger: carried on from a checkpoint.
  // The meter runs from now on, in phase startup.
  SiteContext(const Config& config, EnergyLedger ledger);

  // Replaces the clock, e.g. by the hub's.
  void set_clock(const ClockSpec& clock);
  double now_unix_s() const { return clock_.now_unix_s(); }

  bool window_open() const;
  // Also outside windows with gate.enforce off: then whoever started this process ends it.
  bool may_train() const;
  // Simulated; nothing without a signal, while closed, or where the signal is live: its future is not known.
  std::optional<double> window_left_s() const;
  std::optional<const Window*> next_window() const;  // nothing without a known signal; null after the last
  std::optional<double> intensity_g_per_kwh() const;

  // Books the energy since the last call under the phase that was running, and goes on in `phase`.
  void enter(Phase phase);
  // The same, staying in the phase.
  const EnergyLedger& energy();
  const std::string& energy_source() const { return source_; }

 private:
  void book(double joules, double from_unix_s, double to_unix_s);

  Config config_;
  ClockSpec clock_;
  std::optional<Signal> signal_;
  std::unique_ptr<LiveGate> live_;
  std::vector<Window> windows_;
  std::unique_ptr<EnergyMeter> meter_;
  std::string source_;
  EnergyLedger ledger_;
  Phase phase_ = Phase::startup;
  double booked_until_unix_s_ = 0;
};

}  // namespace spillway
