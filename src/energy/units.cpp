#include "energy/units.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace spillway {
namespace {

struct KnownUnit {
  std::string_view pattern;  // in the spelling of normalized()
  const char* name;
  double scale;
  const char* written;
};

constexpr double kPoundPerMwh = 0.45359237;  // g/kWh

// Longer patterns first: MWh is found before MW.
constexpr std::array<KnownUnit, 27> kUnits = {{
    {"lbs/co2/mwh", kIntensityUnit, kPoundPerMwh, "lb/MWh"},
    {"lbsco2/mwh", kIntensityUnit, kPoundPerMwh, "lb/MWh"},
    {"lbco2/mwh", kIntensityUnit, kPoundPerMwh, "lb/MWh"},
    {"lbs/mwh", kIntensityUnit, kPoundPerMwh, "lb/MWh"},
    {"lb/mwh", kIntensityUnit, kPoundPerMwh, "lb/MWh"},
    {"kgco2/kwh", kIntensityUnit, 1000, "kg/kWh"},
    {"kg/kwh", kIntensityUnit, 1000, "kg/kWh"},
    {"kgco2/mwh", kIntensityUnit, 1, "kg/MWh"},
    {"kg/mwh", kIntensityUnit, 1, "kg/MWh"},
    {"tco2/mwh", kIntensityUnit, 1000, "t/MWh"},
    {"t/mwh", kIntensityUnit, 1000, "t/MWh"},
    {"gco2/kwh", kIntensityUnit, 1, kIntensityUnit},
    {"g/co2/kwh", kIntensityUnit, 1, kIntensityUnit},
    {"g/kwh", kIntensityUnit, 1, kIntensityUnit},
    {"eur/mwh", "EUR/MWh", 1, "EUR/MWh"},
    {"usd/mwh", "USD/MWh", 1, "USD/MWh"},
    {"aud/mwh", "AUD/MWh", 1, "AUD/MWh"},
    {"gbp/mwh", "GBP/MWh", 1, "GBP/MWh"},
    {"€/mwh", "EUR/MWh", 1, "EUR/MWh"},
    {"£/mwh", "GBP/MWh", 1, "GBP/MWh"},
    {"$/mwh", "$/MWh", 1, "$/MWh"},
    {"currency/mwh", "currency/MWh", 1, "currency/MWh"},
    {"mwh", "MWh", 1, "MWh"},
    {"mw", "MW", 1, "MW"},
    {"kw", "MW", 1e-3, "kW"},
    {"percentile", kPercentileUnit, 1, kPercentileUnit},
    {"%", "%", 1, "%"},
}};

void replace_all(std::string* text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size())
    text->replace(at, from.size(), to);
}

// Lower case, one spelling of CO2, words apart by '/'.
std::string normalized(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  replace_all(&result, "co₂", "co2");
  replace_all(&result, "co2eq", "co2");
  replace_all(&result, "co2e", "co2");
  replace_all(&result, "_", "/");
  replace_all(&result, "/per/", "/");
  return result;
}

}  // namespace

std::optional<Unit> find_unit(std::string_view text) {
  const std::string where = normalized(text);
  const auto is_letter = [](unsigned char c) { return std::isalnum(c) != 0; };
  for (const KnownUnit& unit : kUnits)
    for (std::size_t at = where.find(unit.pattern); at != std::string::npos;
         at = where.find(unit.pattern, at + 1)) {
      const std::size_t end = at + unit.pattern.size();
      if ((at == 0 || !is_letter(where[at - 1])) && (end == where.size() || !is_letter(where[end])))
        return Unit{unit.name, unit.scale, unit.written};
    }
  return std::nullopt;
}

}  // namespace spillway
