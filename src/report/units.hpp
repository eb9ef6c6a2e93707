// Quantities as people read them: three significant digits and a fitting unit.
#pragma once

#include <string>

namespace spillway {

// Three significant digits, no exponent between 0.001 and 1e6, groups of thousands by thin spaces: "0.0123", "12 300".
std::string readable(double value);

std::string readable_energy(double kwh);        // "820 Wh", "27.5 kWh", "1.2 MWh"
std::string readable_mass(double grams);        // "12.3 g", "1.34 kg", "2.1 t"
std::string readable_count(double count);       // "950", "561 k", "12.3 M", "1.3 G"
std::string readable_duration(double seconds);  // "40 s", "12 min", "2 h 05 min", "3 d 4 h"
std::string readable_power(double watts);       // "468 W", "2.02 kW"
std::string readable_bytes(double bytes);       // "22.1 MB"
std::string readable_percent(double share);     // of 1: "12.3 %"

}  // namespace spillway
