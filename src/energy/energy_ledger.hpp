// Energy and emissions so far, in whole millijoules and micrograms: sums are the same in any order, over any number of
// checkpoints, and on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// What the site was doing while the energy flowed. solo: training alone, merges with the vault included; federated: training
// in a federation with other sites, exchanges included; checkpoint: until the copy is taken; drain: from the decision to stop
// to the end; idle: waiting for the hub, for data or for a federation to form, and pauses for a power cap.
enum class Phase { startup, solo, federated, checkpoint, drain, idle };
inline constexpr std::array<const char*, 6> kPhaseNames = {"startup",    "solo",  "federated",
                                                           "checkpoint", "drain", "idle"};
inline constexpr std::size_t kPhases = kPhaseNames.size();

// What used it: GPUs; CPU packages and memory; the rest of a node by its declared share; a whole node by its declared
// power; what the building adds (PUE).
enum class Component { gpu, cpu, rest, node, facility };
inline constexpr std::array<const char*, 5> kComponentNames = {"gpu", "cpu", "rest", "node", "facility"};
inline constexpr std::size_t kComponents = kComponentNames.size();

// The two ways to count emissions, side by side: what one more kWh causes, and the mean of all kWh.
enum class Account { marginal, average };
inline constexpr std::array<const char*, 2> kAccountNames = {"marginal", "average"};
inline constexpr std::size_t kAccounts = kAccountNames.size();

// Constant powers over [from_unix_s, to_unix_s), simulated time.
struct EnergyFlow {
  Phase phase = Phase::idle;
  double from_unix_s = 0, to_unix_s = 0;
  std::array<double, kComponents> power_w = {};
  std::array<bool, kComponents> measured = {};  // by a counter; else by a model
  // A declared power: pieces of such a flow add up to the same integers as the whole, wherever they are cut.
  bool declared = false;
  bool known = true;  // false: something drew power that neither a counter nor a declaration tells
};

// The grid around the site. Null, or a signal of prices or power: that intensity is unknown throughout.
struct Grid {
  const Signal* marginal = nullptr;
  const Signal* average = nullptr;
  const std::vector<Window>* windows = nullptr;  // in order, disjoint; null: always outside
};

// All energies are at the site's meter, PUE included. Unknown is never taken for zero: energy under an unknown intensity is
// in unknown_kwh() and in no emissions, time of unknown power in unmetered_s().
class EnergyLedger {
 public:
  // The flow is cut where an intensity changes and where a window opens or closes.
  void add(const EnergyFlow& flow, const Grid& grid);
  // Modelled energy that flowed evenly over [from, to), or at one instant, under a marginal signal.
  void add(Phase phase, double joules, double from_unix_s, double to_unix_s, const Signal* signal,
           const std::vector<Window>& windows);
  EnergyLedger& operator+=(const EnergyLedger& other);
  bool operator==(const EnergyLedger&) const = default;
  // What was added since `before`, an earlier state of this ledger.
  EnergyLedger since(const EnergyLedger& before) const;

  std::int64_t total_mj() const;
  std::int64_t phase_mj(Phase phase) const;
  std::int64_t inside_mj() const;
  std::int64_t component_mj(Component component) const { return component_mj_[index(component)]; }
  std::int64_t measured_mj() const { return measured_mj_; }
  std::int64_t unknown_mj(Account account) const;  // drawn while that intensity was unknown
  std::int64_t emissions_ug(Account account) const;
  std::int64_t inside_ug(Account account) const;
  std::int64_t phase_ug(Phase phase, Account account) const;
  double unmetered_s() const { return static_cast<double>(unmetered_us_) * 1e-6; }

  // The same in kWh and g; without an account: marginal.
  double energy_kwh() const { return kwh(total_mj()); }
  double phase_kwh(Phase phase) const { return kwh(phase_mj(phase)); }
  double inside_kwh() const { return kwh(inside_mj()); }
  double outside_kwh() const { return kwh(total_mj() - inside_mj()); }
  double unknown_kwh(Account account = Account::marginal) const { return kwh(unknown_mj(account)); }
  double emissions_g(Account account = Account::marginal) const { return grams(emissions_ug(account)); }
  double inside_g(Account account = Account::marginal) const { return grams(inside_ug(account)); }
  double outside_g(Account account = Account::marginal) const {
    return grams(emissions_ug(account) - inside_ug(account));
  }

  static double kwh(std::int64_t millijoules) { return static_cast<double>(millijoules) / 3.6e9; }
  static double grams(std::int64_t micrograms) { return static_cast<double>(micrograms) / 1e6; }

  // For files: keys such as "solo_inside_mj" and "marginal_solo_inside_ug", zeros left out, and always "total_mj".
  // from_map throws Error(bad_data) naming a key that is unknown, or a total that is missing or is not the sum.
  std::map<std::string, std::int64_t> to_map() const;
  static EnergyLedger from_map(const std::map<std::string, std::int64_t>& values);

 private:
  template <class Enum>
  static constexpr std::size_t index(Enum value) {
    return static_cast<std::size_t>(value);
  }
  // Calls visit(key, value) for each of the ledger's numbers.
  template <class Ledger, class Visit>
  static void each(Ledger& ledger, Visit visit);
  void add_piece(const EnergyFlow& flow, const Grid& grid, double from, double to);

  using ByPlace = std::array<std::int64_t, 2>;  // outside, inside
  std::array<ByPlace, kPhases> phase_mj_ = {};
  std::array<std::int64_t, kComponents> component_mj_ = {};
  std::int64_t measured_mj_ = 0;
  std::array<std::array<ByPlace, kPhases>, kAccounts> phase_ug_ = {};
  std::array<std::int64_t, kAccounts> unknown_mj_ = {};
  std::int64_t unmetered_us_ = 0;
};

}  // namespace spillway
