// A grid signal: a time series that a gate opens and closes on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

// Samples of one region. A sample holds from its stamp until the next one; the last one for one step. A gap of more than
// twice the step is closed: there the signal is unknown one step after the sample before it.
struct Signal {
  std::string region;
  std::string unit = "g/kWh";
  std::vector<double> times_unix_s;  // strictly increasing
  std::vector<double> values;        // NaN: unknown
  double step_s = 0;                 // the most frequent distance between two samples

  // Nothing before the first sample, inside a gap, at a NaN, and after the end.
  std::optional<double> value_at(double unix_s) const;
  // [start, end) of what the samples cover.
  double start_unix_s() const;
  double end_unix_s() const;
  // Until when the sample at `index` holds.
  double held_until(std::size_t index) const;

  struct Gap {
    double start_unix_s, end_unix_s;
  };
  std::vector<Gap> gaps() const;
};

struct SignalOptions {
  std::string region;    // column; may be empty where the file has one region only
  std::string timezone;  // "UTC" for stamps without a zone; empty: such stamps are refused
};

// Reads a CSV with one column of instants, the first, and one column per region: ISO 8601 stamps with a zone, or without
// one where options.timezone says UTC. Empty cells, "NaN" and "null" are unknown. Throws Error(bad_data) naming file,
// line and remedy.
Signal read_signal(const std::filesystem::path& file, const SignalOptions& options);

// The p-th percentile (0…100) of the known values, linear between ranks. Throws Error(bad_data) where none is known.
double percentile(const Signal& signal, double p);

}  // namespace spillway
