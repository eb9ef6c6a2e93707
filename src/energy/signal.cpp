#include "energy/signal.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include "core/error.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> split_cells(std::string line) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  std::vector<std::string> cells;
  for (std::size_t start = 0;;) {
    const auto comma = line.find(',', start);
    cells.push_back(line.substr(start, comma == std::string::npos ? comma : comma - start));
    if (comma == std::string::npos) return cells;
    start = comma + 1;
  }
}

std::optional<double> parse_cell(const std::string& text) {
  if (text.empty() || text == "NaN" || text == "nan" || text == "null") return kUnknown;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// The column of the region; 1 where no region is asked for and there is one only.
std::size_t find_column(const std::string& file, const std::vector<std::string>& header,
                        const std::string& region) {
  std::string known;
  for (std::size_t i = 1; i < header.size(); ++i) {
    if (header[i] == region) return i;
    known += (known.empty() ? "" : ", ") + header[i];
  }
  if (header.size() < 2)
    fail(ExitCode::bad_data, "{}: line 1: a signal has a column of instants and at least one of values",
         file);
  if (region.empty() && header.size() == 2) return 1;
  if (region.empty())
    fail(ExitCode::usage, "{}: several regions: choose one with --signal.region: {}", file, known);
  fail(ExitCode::bad_data, "{}: no region '{}'; the file has: {}", file, region, known);
}

double most_frequent_step(const std::vector<double>& times) {
  std::map<double, int> counts;
  for (std::size_t i = 1; i < times.size(); ++i) ++counts[times[i] - times[i - 1]];
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? 0 : most->first;
}

}  // namespace

double Signal::start_unix_s() const { return times_unix_s.empty() ? 0 : times_unix_s.front(); }
double Signal::end_unix_s() const { return times_unix_s.empty() ? 0 : held_until(times_unix_s.size() - 1); }

double Signal::held_until(std::size_t index) const {
  const double own = times_unix_s[index];
  if (index + 1 == times_unix_s.size()) return own + step_s;
  const double next = times_unix_s[index + 1];
  return next - own > 2 * step_s ? own + step_s : next;
}

std::optional<double> Signal::value_at(double unix_s) const {
  const auto after = std::upper_bound(times_unix_s.begin(), times_unix_s.end(), unix_s);
  if (after == times_unix_s.begin()) return std::nullopt;
  const auto index = static_cast<std::size_t>(after - times_unix_s.begin()) - 1;
  if (unix_s >= held_until(index) || std::isnan(values[index])) return std::nullopt;
  return values[index];
}

std::vector<Signal::Gap> Signal::gaps() const {
  std::vector<Gap> result;
  for (std::size_t i = 0; i + 1 < times_unix_s.size(); ++i)
    if (held_until(i) < times_unix_s[i + 1]) result.push_back({held_until(i), times_unix_s[i + 1]});
  return result;
}

Signal read_signal(const std::filesystem::path& file, const SignalOptions& options) {
  const std::string name = file.string();
  std::ifstream stream(file);
  if (!stream) fail(ExitCode::bad_data, "{}: cannot be read: check --signal.file", name);
  std::string line;
  if (!std::getline(stream, line)) fail(ExitCode::bad_data, "{}: empty: not a signal", name);
  const std::vector<std::string> header = split_cells(line);
  const std::size_t column = find_column(name, header, options.region);
  Signal signal;
  signal.region = header[column];
  for (std::size_t number = 2; std::getline(stream, line); ++number) {
    if (line.empty() || line == "\r") continue;
    const std::vector<std::string> cells = split_cells(line);
    if (cells.size() != header.size())
      fail(ExitCode::bad_data, "{}: line {}: {} cells instead of {}; is the file truncated?", name, number,
           cells.size(), header.size());
    bool had_zone = false;
    const auto time = parse_utc(cells[0], &had_zone);
    if (!time)
      fail(ExitCode::bad_data, "{}: line {}: '{}' is not an ISO 8601 instant", name, number, cells[0]);
    if (!had_zone && options.timezone != "UTC")
      fail(ExitCode::bad_data, "{}: line {}: '{}' has no time zone; say --signal.timezone UTC if it is UTC",
           name, number, cells[0]);
    if (!signal.times_unix_s.empty() && *time <= signal.times_unix_s.back())
      fail(ExitCode::bad_data, "{}: line {}: {} is not after the instant before it", name, number, cells[0]);
    const auto value = parse_cell(cells[column]);
    if (!value)
      fail(ExitCode::bad_data, "{}: line {}: column {}: '{}' is not a number", name, number, header[column],
           cells[column]);
    signal.times_unix_s.push_back(*time);
    signal.values.push_back(*value);
  }
  if (signal.times_unix_s.size() < 2)
    fail(ExitCode::bad_data, "{}: {} samples: a signal needs at least two", name, signal.times_unix_s.size());
  signal.step_s = most_frequent_step(signal.times_unix_s);
  return signal;
}

double percentile(const Signal& signal, double p) {
  if (!(p >= 0 && p <= 100)) fail(ExitCode::usage, "gate.percentile = {}: must be between 0 and 100", p);
  std::vector<double> known;
  std::copy_if(signal.values.begin(), signal.values.end(), std::back_inserter(known),
               [](double value) { return !std::isnan(value); });
  if (known.empty()) fail(ExitCode::bad_data, "region {}: no known values for a percentile", signal.region);
  std::sort(known.begin(), known.end());
  const double rank = p / 100 * static_cast<double>(known.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const std::size_t high = std::min(low + 1, known.size() - 1);
  return known[low] + (rank - static_cast<double>(low)) * (known[high] - known[low]);
}

}  // namespace spillway
