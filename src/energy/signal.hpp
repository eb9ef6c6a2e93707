// A grid signal: a time series that a gate opens and closes on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

// Samples of one region. A sample holds from its stamp until the next one; the last one for one step. Where the next one
// is more than two steps away there is a gap: the sample holds for one step, then the signal is unknown. Blank cells of a
// file are missing samples, so that a blank and a missing line mean the same.
struct Signal {
  std::string region;
  std::string unit = "g/kWh";
  std::vector<double> times_unix_s;  // strictly increasing
  std::vector<double> values;        // as many, finite
  double step_s = 0;                 // the most frequent distance between two samples

  // Nothing before the first sample, inside a gap, and after the end.
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
// one where options.timezone says UTC. Empty cells, "NaN" and "null" are missing samples. Throws Error(bad_data) naming
// file, line, column and remedy.
Signal read_signal(const std::filesystem::path& file, const SignalOptions& options);

// The p-th percentile (0…100) of the samples, linear between ranks. Throws Error(usage) for another p.
double percentile(const Signal& signal, double p);

}  // namespace spillway
