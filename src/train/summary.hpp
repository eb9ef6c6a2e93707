// What a whole run came to: read back from the sites' checkpoints and energy logs and the hub's journal, nothing else.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/config.hpp"

namespace spillway {

// Keys (a contract): sites.{name}.{windows,trained_s,tokens,suspends,energy_kwh,emissions_g}, tokens,
// rounds.{solo,federated}, val_bpb.{first,last}, train_loss.{first,last}, energy_kwh, emissions_g,
// in_window_energy_fraction, baseline_emissions_g.{site}, emissions_ratio.{site}, wall_s. Values that are not known are
// null. sites: each site's configuration by name; the files of run.dir/<name> are read.
// The baseline of a site: always on from the replay's start, alone, using the energy of the whole run at its own power.
nlohmann::json summarize_run(const Config& common, const std::map<std::string, Config>& sites, double wall_s);

// The same as a table for people.
std::string summary_table(const nlohmann::json& summary);

}  // namespace spillway
