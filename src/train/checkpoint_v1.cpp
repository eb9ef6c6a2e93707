#include "train/checkpoint_v1.hpp"

#include <cmath>

#include "core/error.hpp"

namespace spillway {

EnergyLedger energy_of_version_1(const CheckpointReader& reader) {
  const Attributes attributes = reader.attributes("/energy");
  const auto number = [&](const std::string& name) {
    const auto found = attributes.find(name);
    const double* value = found == attributes.end() ? nullptr : std::get_if<double>(&found->second);
    if (value == nullptr || !(*value >= 0) || !(*value < 1e9))
      fail(ExitCode::bad_data, "{}: /energy: attribute {} is missing or not an energy",
           reader.file().string(), name);
    return *value;
  };
  const double inside = number("inside_kwh"), outside = number("outside_kwh");
  std::map<std::string, std::int64_t> values;
  std::int64_t total = 0;
  for (const std::string place : {"inside", "outside"}) {
    const double here = place == "inside" ? inside : outside;
    if (here == 0) continue;
    for (const std::string phase : kPhaseNames) {
      const double share = number(phase + "_kwh") / (inside + outside);
      const auto energy = std::llround(3.6e9 * share * here);
      values[phase + "_" + place + "_mj"] = energy;
      values["marginal_" + phase + "_" + place + "_ug"] = std::llround(1e6 * share * number(place + "_g"));
      total += energy;
    }
  }
  values["total_mj"] = values["node_mj"] = total;
  values["marginal_unknown_mj"] = std::llround(3.6e9 * number("unknown_kwh"));
  return EnergyLedger::from_map(values);
}

}  // namespace spillway
