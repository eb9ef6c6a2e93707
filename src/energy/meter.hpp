// How much energy a site used, and what it emitted.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// What the site was doing while the energy flowed.
enum class Phase { startup, solo, federated, checkpoint, drain, idle };
inline constexpr std::array<const char*, 6> kPhaseNames = {"startup",    "solo",  "federated",
                                                           "checkpoint", "drain", "idle"};

// Joules used since the last call, by a counter or by a declared power.
class EnergyMeter {
 public:
  virtual ~EnergyMeter() = default;
  // seconds: simulated time since the last call; counters ignore it.
  virtual double joules_since_last(Phase phase, double seconds) = 0;
  // "rapl" or "modelled"
  virtual std::string source() const = 0;
};

// RAPL's counters of packages and memory where the clock runs in real time and they are readable, else the declared power of
// [site] (train-power, idle-power), marked as modelled. Replayed time has no counter: then always the model.
std::unique_ptr<EnergyMeter> make_meter(const SiteConfig& site, bool real_time,
                                        const std::string& powercap_folder = "/sys/class/powercap");

// Energy and emissions so far. All energies are at the site's meter, PUE included.
class EnergyLedger {
 public:
  // Adds energy that flowed evenly over [from, to), in simulated time, under the signal and the windows (in order,
  // disjoint). signal may be null, or of prices or power: then the intensity is unknown throughout. Unknown is never
  // taken for zero: that energy is in unknown_kwh() and in no emissions.
  void add(Phase phase, double joules, double from_unix_s, double to_unix_s, const Signal* signal,
           const std::vector<Window>& windows);

  double energy_kwh() const;
  double emissions_g() const;  // of the energy whose intensity was known
  double phase_kwh(Phase phase) const { return phase_kwh_[static_cast<std::size_t>(phase)]; }
  double inside_kwh() const { return inside_kwh_; }
  double outside_kwh() const { return outside_kwh_; }
  double inside_g() const { return inside_g_; }
  double outside_g() const { return outside_g_; }
  double unknown_kwh() const { return unknown_kwh_; }  // drawn while the intensity was unknown

  // For checkpoints: exact, keys such as "solo_kwh", "inside_g". from_map throws Error(bad_data) naming a missing key.
  std::map<std::string, double> to_map() const;
  static EnergyLedger from_map(const std::map<std::string, double>& values);

 private:
  std::array<double, kPhaseNames.size()> phase_kwh_ = {};
  double inside_kwh_ = 0, outside_kwh_ = 0, inside_g_ = 0, outside_g_ = 0, unknown_kwh_ = 0;
};

// Grams that a site always on from start_unix_s emits while it uses energy_kwh at a constant power_w; nothing where the
// signal ends before or is unknown on the way. The baseline of one site that trains the same tokens without pausing.
std::optional<double> always_on_emissions_g(const Signal& signal, double start_unix_s, double energy_kwh,
                                            double power_w);

}  // namespace spillway
