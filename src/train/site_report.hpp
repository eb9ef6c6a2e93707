// One site's part of a run's report.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "energy/energy_ledger.hpp"
#include "energy/gate.hpp"
#include "energy/signal.hpp"
#include "io/checkpoint.hpp"
#include "train/record.hpp"
#include "train/run_report.hpp"
#include "train/telemetry.hpp"

namespace spillway {

// What a site's folder holds; parts that are not there are empty.
struct SiteFiles {
  std::string name;
  std::optional<CheckpointReader> checkpoint;
  std::optional<Config> config;
  std::optional<TrainingRecord> record;
  EnergyLedger checkpoint_energy;
  std::string energy_source;
  std::vector<TelemetryLine> log;
  // From the files that the configuration names; of live signals what the site saw of them.
  std::optional<Signal> signal, emissions, average, excess;
  std::optional<GateThresholds> thresholds;
  std::vector<Window> windows;
  std::vector<std::string> notes;  // what is missing or could not be read

  // All that the site used: the log's last line, else the checkpoint's ledger.
  EnergyLedger energy() const;
  // The ledger at an instant, between two lines in proportion to time, in kWh and g.
  double kwh_at(double unix_s) const;
  double grams_at(double unix_s) const;
  const Signal* marginal() const { return emissions ? &*emissions : signal ? &*signal : nullptr; }
  // First and last instant that anything is known of.
  std::optional<Window> span() const;
};

SiteFiles read_site_files(const std::filesystem::path& folder, const ReportOptions& options);

// The site's entry in the document. span: of the run.
nlohmann::json describe_site(const SiteFiles& site, const Window& span, const ReportOptions& options);

}  // namespace spillway
