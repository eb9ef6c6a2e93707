// A schedule made from forecasts: when which site runs, what comes of it, and how sure that is.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "energy/gate.hpp"
#include "energy/signal.hpp"

namespace spillway {

// A stretch in which the same sites are open.
struct Overlap {
  double start_unix_s = 0, end_unix_s = 0;
  std::vector<std::size_t> sites;  // at least two, ascending
};

// The stretches in which two or more sites are open, in order.
std::vector<Overlap> find_overlaps(const std::vector<std::vector<Window>>& windows);

// The part (0…1) of a window that lies in other windows (disjoint, in order).
double covered_part(const Window& window, const std::vector<Window>& others);

// The part of a signal from an instant on: what a plan takes for the forecast. The sample in force there is cut to start there.
Signal signal_from(const Signal& signal, double from_unix_s);

// The history up to where the forecast starts, then the forecast. Units must agree.
Signal spliced(const Signal& history, const Signal& forecast);

// A signal that ends before `until` goes on as the last 24 hours of it did: what is known when nobody forecasts.
Signal repeated_until(const Signal& signal, double until_unix_s);

// What the future could be instead, if forecasts err as "tomorrow is like today" erred before: the forecast plus the errors
// v(t) − v(t − 24 h) of an equally long stretch of the history before `from`, drawn at random and drawn whole, since errors
// of neighbouring hours go together. Intensities stay at 0 or more. Nothing where the history is shorter than two days.
// draw: which of the many.
std::optional<Signal> perturbed(const Signal& signal, double from_unix_s, std::uint64_t seed,
                                std::uint64_t draw);

// Values at the 10th, 50th and 90th percentile; values must not be empty.
struct Quantiles {
  double p10 = 0, p50 = 0, p90 = 0;
};
Quantiles quantiles(std::vector<double> values);

}  // namespace spillway
