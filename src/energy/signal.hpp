// A grid signal: a time series that a gate opens and closes on.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"

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
  std::vector<double> steps_s;       // of each sample, where the file says them and they differ; else empty

  // Nothing before the first sample, inside a gap, and after the end.
  std::optional<double> value_at(double unix_s) const;
  // [start, end) of what the samples cover.
  double start_unix_s() const;
  double end_unix_s() const;
  // Until when the sample at `index` holds.
  double held_until(std::size_t index) const;
  // Grams of CO2 per kWh: only then do values count as emissions.
  bool is_intensity() const { return unit == "g/kWh"; }

  // Adds a sample after the last one, that holds for step_s.
  void append(double at_unix_s, double step_s, double value);

  struct Gap {
    double start_unix_s, end_unix_s;
  };
  std::vector<Gap> gaps() const;
};

// Reads config.file in any format that `spillway signal formats` lists, and logs what was ambiguous. Throws Error(bad_data)
// naming file, line, column and remedy; Error(usage) for options that do not exist.
Signal read_signal(const SignalConfig& config);

// The samples of both, each for as long as it held in its own; where both have an instant, that of `later`. Units must agree.
Signal joined(const Signal& earlier, const Signal& later);

// The p-th percentile (0…100) of the samples, linear between ranks. Throws Error(usage) for another p.
double percentile(const Signal& signal, double p);

}  // namespace spillway
