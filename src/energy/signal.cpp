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

bool is_blank(const std::string& text) {
  return text.empty() || text == "NaN" || text == "nan" || text == "null";
}

std::optional<double> parse_number(const std::string& text) {
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
    fail(ExitCode::bad_data,
         "{}: line 1: one column: not a signal; it needs a column of instants and one per region", file);
  if (region.empty() && header.size() == 2) return 1;
  if (region.empty())
    fail(ExitCode::usage, "{}: several regions: choose one with --signal.region: {}", file, known);
  fail(ExitCode::bad_data, "{}: line 1: no region '{}'; choose with --signal.region one of: {}", file, region,
       known);
}

double parse_stamp(const std::string& file, std::size_t line, const std::string& column,
                   const std::string& text, const SignalOptions& options) {
  bool had_zone = false;
  const auto time_unix_s = parse_utc(text, &had_zone);
  if (!time_unix_s)
    fail(ExitCode::bad_data,
         "{}: line {}: column {}: '{}' is not an ISO 8601 instant such as 2026-01-11T17:05:00Z", file, line,
         column, text);
  if (!had_zone && options.timezone != "UTC")
    fail(ExitCode::bad_data,
         "{}: line {}: column {}: '{}' has no time zone; if it is UTC, say --signal.timezone UTC", file, line,
         column, text);
  return *time_unix_s;
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
  if (unix_s >= held_until(index)) return std::nullopt;
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
  if (!stream || !std::filesystem::is_regular_file(file))
    fail(ExitCode::bad_data, "{}: no such file, or not readable; check --signal.file", name);
  std::string line;
  if (!std::getline(stream, line)) fail(ExitCode::bad_data, "{}: empty file; check --signal.file", name);
  if (std::any_of(line.begin(), line.end(),
                  [](unsigned char c) { return c < ' ' && c != '\r' && c != '\t'; }))
    fail(ExitCode::bad_data, "{}: line 1: not text; check --signal.file", name);
  const std::vector<std::string> header = split_cells(line);
  const std::size_t column = find_column(name, header, options.region);
  Signal signal;
  signal.region = header[column];
  double previous_unix_s = -std::numeric_limits<double>::infinity();
  for (std::size_t number = 2; std::getline(stream, line); ++number) {
    if (line.empty() || line == "\r") continue;
    const std::vector<std::string> cells = split_cells(line);
    if (cells.size() != header.size())
      fail(ExitCode::bad_data, "{}: line {}: {} cells instead of {}; is the file truncated?", name, number,
           cells.size(), header.size());
    const double time_unix_s = parse_stamp(name, number, header[0], cells[0], options);
    if (time_unix_s <= previous_unix_s)
      fail(ExitCode::bad_data,
           "{}: line {}: column {}: {} is not after the instant before it; sort the file and drop doubles",
           name, number, header[0], cells[0]);
    previous_unix_s = time_unix_s;
    if (is_blank(cells[column])) continue;
    const auto value = parse_number(cells[column]);
    if (!value)
      fail(ExitCode::bad_data,
           "{}: line {}: column {}: '{}' is not a number; correct it or leave the cell blank", name, number,
           header[column], cells[column]);
    signal.times_unix_s.push_back(time_unix_s);
    signal.values.push_back(*value);
  }
  if (signal.times_unix_s.size() < 2)
    fail(ExitCode::bad_data, "{}: column {}: {} samples; a signal needs at least two", name, header[column],
         signal.times_unix_s.size());
  signal.step_s = most_frequent_step(signal.times_unix_s);
  return signal;
}

double percentile(const Signal& signal, double p) {
  if (!(p >= 0 && p <= 100)) fail(ExitCode::usage, "gate.percentile = {}: must be between 0 and 100", p);
  if (signal.values.empty()) fail(ExitCode::bad_data, "region {}: no values for a percentile", signal.region);
  std::vector<double> sorted = signal.values;
  std::sort(sorted.begin(), sorted.end());
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (rank - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

}  // namespace spillway
