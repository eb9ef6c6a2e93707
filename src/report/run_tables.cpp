// Headline figures and tables of a run.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/time.hpp"
#include "report/run_parts.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

using nlohmann::json;

// The last validation by tokens over all sites.
double last_validation(const json& document) {
  double best = -1, value = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [site, rows] : document.at("curves").at("validation").items())
    for (const json& row : rows)
      if (number(row.at("tokens")) >= best) {
        best = number(row.at("tokens"));
        value = number(row.at("value"));
      }
  return value;
}

std::pair<double, double> ratios(const json& document) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& [site, entry] : document.at("baselines").at("always_on").items())
    if (entry.at("ratio").is_number()) {
      low = std::min(low, number(entry["ratio"]));
      high = std::max(high, number(entry["ratio"]));
    }
  return {low, high};
}

}  // namespace

double number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string instant(const json& unix_s) {
  if (!unix_s.is_number()) return "–";
  const std::string stamp = format_utc(unix_s.get<double>());
  return stamp.substr(0, 10) + " " + stamp.substr(11, 5);
}

std::vector<Tile> headline_tiles(const json& document) {
  std::vector<Tile> tiles;
  const json& energy = document.at("energy");
  const double kwh = number(energy.at("energy_kwh"));
  const double merged = number(document.at("run").at("steps").at("merged"));
  const double tokens = merged * number(document.at("run").at("tokens_per_step"));
  tiles.push_back({"Tokens in the model", readable_count(tokens),
                   readable_count(number(document.at("run").at("tokens"))) + " trained at all sites"});
  if (const double bpb = last_validation(document); std::isfinite(bpb))
    tiles.push_back({"Validation", readable(bpb), "bits per byte, last measured"});
  const double measured = number(energy.at("measured_kwh"));
  tiles.push_back({"Energy", kwh > 0 ? readable_energy(kwh) : "unknown",
                   kwh <= 0        ? "neither meter nor declared power"
                   : measured == 0 ? "modelled from declared power"
                                   : readable_percent(measured / kwh) + " measured, the rest modelled"});
  tiles.push_back({"In windows", readable_percent(kwh > 0 ? number(energy.at("inside_kwh")) / kwh : NAN),
                   "of the energy"});
  const json& marginal = energy.at("accounts").at("marginal");
  const double unknown = number(marginal.at("unknown_kwh"));
  tiles.push_back(
      {"Emissions", unknown < kwh ? readable_mass(number(marginal.at("emissions_g"))) + " CO₂" : "unknown",
       unknown > 0 ? "of " + readable_percent(1 - unknown / kwh) + " of the energy; the rest is unknown"
                   : "by the marginal signal"});
  const auto [low, high] = ratios(document);
  if (low <= high)
    tiles.push_back({"Against always on",
                     std::abs(high - low) < 5e-4 ? readable_percent(low)
                                                 : readable(100 * low) + " to " + readable_percent(high),
                     "of the emissions of one site without pause"});
  return tiles;
}

Table site_table(const json& document) {
  Table table{{"site", "#jobs", "#tokens", "#energy", "#in windows", "#CO₂ (marginal)", "#CO₂ (average)",
               "#g/kWh", "energy is"},
              {}};
  for (const json& site : document.at("sites")) {
    const json& energy = site.at("energy");
    const double kwh = number(energy.at("energy_kwh"));
    const json &marginal = energy.at("accounts").at("marginal"),
               &average = energy.at("accounts").at("average");
    const bool average_known = number(average.at("unknown_kwh")) < kwh;
    const bool known = number(marginal.at("unknown_kwh")) < kwh;
    table.rows.push_back(
        {site.at("name"), std::to_string(site.at("jobs").size()), readable_count(number(site.at("tokens"))),
         readable_energy(kwh), readable_percent(kwh > 0 ? number(energy.at("inside_kwh")) / kwh : NAN),
         known ? readable_mass(number(marginal.at("emissions_g"))) : "unknown",
         average_known ? readable_mass(number(average.at("emissions_g"))) : "–",
         known && kwh > 0 ? readable(number(marginal.at("emissions_g")) / kwh) : "–",
         site.at("energy_source").is_string() ? site.at("energy_source").get<std::string>() : "–"});
  }
  return table;
}

Table phase_table(const json& document) {
  Table table{{"phase", "#energy", "#of all", "#CO₂ (marginal)", "#g/kWh"}, {}};
  const json& energy = document.at("energy");
  const double all = number(energy.at("energy_kwh"));
  for (const auto& [name, phase] : energy.at("phases").items()) {
    const double kwh = number(phase.at("energy_kwh"));
    if (kwh == 0) continue;
    table.rows.push_back({name, readable_energy(kwh), readable_percent(kwh / all),
                          readable_mass(number(phase.at("emissions_g"))),
                          readable(number(phase.at("emissions_g")) / kwh)});
  }
  table.rows.push_back({"all", readable_energy(all), readable_percent(1),
                        readable_mass(number(energy.at("accounts").at("marginal").at("emissions_g"))),
                        readable(number(energy.at("accounts").at("marginal").at("emissions_g")) / all)});
  return table;
}

Table baseline_table(const json& document) {
  Table table{{"baseline", "#CO₂", "#this run is", "#takes"}, {}};
  for (const auto& [key, title] :
       {std::pair("always_on", "always on: "), std::pair("wait_awhile", "wait-awhile: ")})
    for (const auto& [site, entry] : document.at("baselines").at(key).items()) {
      const double hours = number(entry.at("hours"));
      table.rows.push_back(
          {title + site,
           entry.at("emissions_g").is_number() ? readable_mass(number(entry["emissions_g"])) : "unknown",
           readable_percent(number(entry.at("ratio"))), readable_duration(hours * 3600)});
    }
  return table;
}

}  // namespace spillway
