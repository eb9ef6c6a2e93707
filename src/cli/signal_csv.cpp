#include "cli/signal_csv.hpp"

#include <fmt/format.h>

#include "core/time.hpp"

namespace spillway::cli {
namespace {

std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"") == std::string::npos) return cell;
  std::string text = "\"";
  for (const char c : cell) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + "\"";
}

}  // namespace

std::string canonical_csv(const Signal& signal) {
  const std::string name =
      signal.is_intensity() ? signal.region : fmt::format("{} ({})", signal.region, signal.unit);
  fmt::memory_buffer text;
  fmt::format_to(std::back_inserter(text), "point_time,{}\n", quoted(name));
  for (std::size_t i = 0; i < signal.values.size(); ++i) {
    const double until = signal.held_until(i);
    for (double at = signal.times_unix_s[i]; at < until; at += signal.step_s)
      fmt::format_to(std::back_inserter(text), "{},{}\n", format_utc(at), signal.values[i]);
  }
  return fmt::to_string(text);
}

}  // namespace spillway::cli
