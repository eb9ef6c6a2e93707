// A site's surroundings as the leader sees them: the clock, the signal and its windows, and the energy they cost.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/meter.hpp"
#include "energy/signal.hpp"

namespace spillway {

class SiteContext {
 public:
  // Reads the signal of [signal]; without signal.file the window is always open. ledger: carried on from a checkpoint.
  // The meter runs from now on, in phase startup.
  SiteContext(const Config& config, EnergyLedger ledger);

  // Replaces the clock, e.g. by the hub's.
  void set_clock(const ClockSpec& clock);
  double now_unix_s() const { return clock_.now_unix_s(); }

  // Always true without a signal, and with gate.enforce off: then whoever started this process ends it.
  bool may_train() const;
  std::optional<double> window_left_s() const;       // simulated; nothing without a signal or while closed
  std::optional<const Window*> next_window() const;  // nothing without a signal; null after the last
  std::optional<double> intensity_g_per_kwh() const;

  // Books the energy since the last call under the phase that was running, and goes on in `phase`.
  void enter(Phase phase);
  // The same, staying in the phase.
  const EnergyLedger& energy();
  const std::string& energy_source() const { return source_; }

 private:
  Config config_;
  ClockSpec clock_;
  std::optional<Signal> signal_;
  std::vector<Window> windows_;
  std::unique_ptr<EnergyMeter> meter_;
  std::string source_;
  EnergyLedger ledger_;
  Phase phase_ = Phase::startup;
  double booked_until_unix_s_ = 0;
};

}  // namespace spillway
