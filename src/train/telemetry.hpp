// A site's energy log: what it did and drew, line by line, beside its checkpoints. It outlives crashes, so energy that was
// used stays counted although the work it went into is lost.
#pragma once

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "energy/energy_ledger.hpp"
#include "energy/live_gate.hpp"

namespace spillway {

struct TelemetryLine {
  // start: a job begins; sample: in between, and where the phase changes; validation: a model was measured; checkpoint:
  // the ledger that the checkpoint holds; round: the one that the hub's journal gets with the round, if it is committed;
  // end: the job's last one.
  std::string event = "sample";
  double unix_s = 0;                    // simulated
  Phase phase = Phase::startup;         // what went on since the line before
  std::int64_t step = 0;                // global
  std::int64_t tokens = 0;              // trained by this site so far
  double trained_s = 0;                 // real time inside optimizer steps so far
  std::optional<double> loss_nats;      // mean since the line before; of a validation: its own
  std::optional<double> bits_per_byte;  // of a validation
  std::optional<std::string> job;       // of a start: the batch system's number of the job
  std::optional<LiveValues> live;       // what live signals said, and the gate made of it
  std::optional<double> power_cap_w;    // in force, at the site's meter
  EnergyLedger energy;                  // so far

  bool operator==(const TelemetryLine&) const = default;
};

class TelemetryLog {
 public:
  static constexpr const char* kFileName = "energy.jsonl";

  // Opens or creates the file; a torn last line, which a crash leaves, is cut off. fresh: what it held before is another
  // run's and goes. Throws Error(io), or Error(bad_data) naming a damaged line.
  TelemetryLog(std::filesystem::path file, bool fresh);

  // Hands the line to the system; no fsync: a crash of the machine may take the last ones. Throws Error(io).
  void append(const TelemetryLine& line);
  // The ledger of the last line when the log was opened.
  const std::optional<EnergyLedger>& last_energy() const { return last_energy_; }

  // All whole lines; empty where there is no file. Throws Error(bad_data) naming a damaged line that is not the last.
  static std::vector<TelemetryLine> read(const std::filesystem::path& file);

 private:
  std::filesystem::path file_;
  std::ofstream stream_;
  std::optional<EnergyLedger> last_energy_;
};

}  // namespace spillway
