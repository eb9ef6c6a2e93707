// Energy counters of a machine, and how much they have advanced: wraps, resets and failures are told apart.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "energy/energy_ledger.hpp"

namespace spillway {

// A counter of the joules that one device has used since some instant.
class EnergyCounter {
 public:
  virtual ~EnergyCounter() = default;
  virtual std::string name() const = 0;         // for messages: "GPU 0000:1A:00.0", a file
  virtual Component component() const = 0;      // gpu or cpu
  virtual double range_j() const { return 0; }  // it wraps there; 0: never
  virtual std::optional<double> read_j() = 0;   // nothing where it cannot be read now
};

// RAPL's counters of CPU packages and memory below a powercap folder that this process may read. Packages do not include
// their memory (intel-rapl:0:2); they do include their other parts, core and uncore; psys, the whole board, includes the
// packages.
std::vector<std::unique_ptr<EnergyCounter>> find_rapl(const std::string& folder = "/sys/class/powercap");

// Follows a counter.
class CounterTracker {
 public:
  explicit CounterTracker(std::unique_ptr<EnergyCounter> counter);

  // How the joules since the last call are known.
  enum class Kind {
    measured,
    // It was reset or could not be read: its last known power over the time passed.
    estimated,
    // The same, and no power of it is known either: nothing can be said.
    unknown,
  };
  struct Advance {
    double joules = 0;
    Kind kind = Kind::measured;
  };
  // seconds: real time since the last call.
  Advance advance(double seconds);
  const EnergyCounter& counter() const { return *counter_; }

 private:
  Advance estimate(double seconds, const char* reason);

  std::unique_ptr<EnergyCounter> counter_;
  std::optional<double> last_j_, last_power_w_;
  bool reported_ = false;
};

}  // namespace spillway
