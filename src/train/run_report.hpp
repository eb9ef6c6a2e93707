// All that is known of a run as one JSON document: what `spillway report` shows, in every format.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include <map>

#include "core/config.hpp"
#include "energy/energy_ledger.hpp"

namespace spillway {

// How a site's configuration is had: from the text that its checkpoint holds, or, where there is none yet, nothing.
using ConfigReader = std::function<Config(const std::string& ini)>;

struct ReportOptions {
  ConfigReader read_config;
  // Joules by job number, as the batch system counted them (sacct's JobIDRaw, ConsumedEnergyRaw).
  std::map<std::string, double> batch_joules;
};

// Reads checkpoints, energy logs and the hub's journal of a run's folder; also while the run goes on, and with sites or
// parts missing: then the document says so under "notes". Throws Error(bad_data) where the folder holds no run.
//
// Keys: state, run, sites[] (name, jobs, activity, signal, energy, series, validations, speed, provenance …), rounds[],
// curves, energy (sums over sites), baselines, assumptions[], notes[], versions. Instants are seconds since 1970 in the
// run's clock, energies kWh with the exact "_mj", emissions g with the exact "_ug". Unknown values are null.
nlohmann::json report_run(const std::filesystem::path& folder, const ReportOptions& options);

// Energy and emissions of a ledger: the same numbers wherever a ledger is shown.
nlohmann::json describe_energy(const EnergyLedger& energy);

// The lines of sacct -P -o JobIDRaw,ConsumedEnergyRaw, with or without header; steps ("123.batch") and blanks are left out.
// Throws Error(bad_data) naming the line.
std::map<std::string, double> read_batch_energy(const std::filesystem::path& file);

}  // namespace spillway
