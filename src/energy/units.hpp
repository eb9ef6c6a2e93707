// Units of signals.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spillway {

inline constexpr const char* kIntensityUnit = "g/kWh";
// A place among past values, 0 to 100: a gate can act on it, but no emissions follow from it.
inline constexpr const char* kPercentileUnit = "percentile";

struct Unit {
  std::string name;     // what values have after scaling: "g/kWh", "EUR/MWh", "MW", …
  double scale = 1;     // value in the file × scale = value in `name`
  std::string written;  // the unit of the file: "lb/MWh"
};

// Finds a unit in the name of a column ("Price (EUR/MWh)", "SGIP_CAISO_PGE_gco2_kwh") or in what a user or an API wrote
// ("lbs_co2_per_mwh"). Masses of CO2 per energy become g/kWh (1 lb = 453.59237 g), kW becomes MW; other units stay.
std::optional<Unit> find_unit(std::string_view text);

}  // namespace spillway
