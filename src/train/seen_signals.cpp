#include "train/seen_signals.hpp"

#include "energy/units.hpp"

namespace spillway {
namespace {

// Adds a value that held over [from, to). Equal ones in a row become one sample, but not a job's last one: its short step
// ends the signal there, where a long one would bridge the gap to the next job.
void extend(std::optional<Signal>* signal, const char* unit, double from, double to,
            std::optional<double> value, bool last) {
  if (!value) return;
  if (!*signal) {
    signal->emplace();
    (*signal)->unit = unit;
  }
  Signal& known = **signal;
  const bool goes_on =
      !last && !known.values.empty() && known.values.back() == *value && known.end_unix_s() == from;
  if (!goes_on) {
    known.append(from, to - from, *value);
    if (known.steps_s.empty()) known.steps_s.push_back(known.step_s = to - from);
    return;
  }
  known.steps_s.back() = to - known.times_unix_s.back();
}

}  // namespace

SeenSignals seen_signals(const std::vector<TelemetryLine>& log) {
  SeenSignals seen;
  for (std::size_t i = 0; i + 1 < log.size(); ++i) {
    const TelemetryLine &line = log[i], &next = log[i + 1];
    if (!line.live || next.event == "start" || next.unix_s <= line.unix_s) continue;
    const double from = line.unix_s, to = next.unix_s;
    const bool last = i + 2 == log.size() || log[i + 2].event == "start";
    extend(&seen.gate, line.live->gate_unit.c_str(), from, to, line.live->gate, last);
    extend(&seen.emissions, kIntensityUnit, from, to, line.live->emissions, last);
    extend(&seen.average, kIntensityUnit, from, to, line.live->average, last);
    extend(&seen.excess, "MW", from, to, line.live->excess, last);
    if (!line.live->open) continue;
    if (!seen.windows.empty() && seen.windows.back().close_unix_s == from)
      seen.windows.back().close_unix_s = to;
    else
      seen.windows.push_back({from, to});
  }
  return seen;
}

}  // namespace spillway
