#include "report/units.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace spillway {
namespace {

struct Unit {
  double factor;
  const char* name;
};

// In the largest unit that leaves at least 1, else in the smallest.
template <std::size_t N>
std::string in_unit(double value, const std::array<Unit, N>& units) {
  if (!std::isfinite(value)) return "–";
  const Unit* best = &units.front();
  for (const Unit& unit : units)
    if (std::abs(value) >= 0.9995 * unit.factor) best = &unit;
  const std::string text = readable(value / best->factor);
  return *best->name == '\0' ? text : text + "\u00a0" + best->name;
}

// "12345.6" → "12 345.6"
std::string grouped(std::string text) {
  const std::size_t start = text.starts_with('-') ? 1 : 0;
  std::size_t end = text.find('.');
  if (end == std::string::npos) end = text.size();
  if (end - start <= 4) return text;
  for (std::size_t at = end; at > start + 3;) text.insert(at -= 3, "\u202f");
  return text;
}

}  // namespace

std::string readable(double value) {
  if (!std::isfinite(value)) return "–";
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size < 1e-3 || size >= 1e9) return fmt::format("{:.3g}", value);
  const int digits = std::max(0, 2 - static_cast<int>(std::floor(std::log10(size) + 1e-9)));
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
  }
  return grouped(text);
}

std::string readable_energy(double kwh) {
  static constexpr std::array units = {Unit{1e-3, "Wh"}, Unit{1, "kWh"}, Unit{1e3, "MWh"}, Unit{1e6, "GWh"}};
  return in_unit(kwh, units);
}

std::string readable_mass(double grams) {
  static constexpr std::array units = {Unit{1, "g"}, Unit{1e3, "kg"}, Unit{1e6, "t"}};
  return in_unit(grams, units);
}

std::string readable_count(double count) {
  static constexpr std::array units = {Unit{1, ""}, Unit{1e3, "k"}, Unit{1e6, "M"}, Unit{1e9, "G"},
                                       Unit{1e12, "T"}};
  return in_unit(count, units);
}

std::string readable_power(double watts) {
  static constexpr std::array units = {Unit{1, "W"}, Unit{1e3, "kW"}, Unit{1e6, "MW"}};
  return in_unit(watts, units);
}

std::string readable_bytes(double bytes) {
  static constexpr std::array units = {Unit{1, "B"}, Unit{1e3, "kB"}, Unit{1e6, "MB"}, Unit{1e9, "GB"},
                                       Unit{1e12, "TB"}};
  return in_unit(bytes, units);
}

std::string readable_percent(double share) {
  return std::isfinite(share) ? readable(100 * share) + "\u00a0%" : "–";
}

std::string readable_duration(double seconds) {
  if (!std::isfinite(seconds)) return "–";
  if (seconds < 0) return "-" + readable_duration(-seconds);
  if (seconds < 60) return readable(seconds) + "\u00a0s";
  const auto minutes = static_cast<long long>(std::llround(seconds / 60));
  if (minutes < 60) return fmt::format("{}\u00a0min", minutes);
  if (minutes < 24 * 60) return fmt::format("{}\u00a0h\u00a0{:02}\u00a0min", minutes / 60, minutes % 60);
  const auto hours = std::llround(seconds / 3600);
  return fmt::format("{}\u00a0d\u00a0{}\u00a0h", hours / 24, hours % 24);
}

}  // namespace spillway
