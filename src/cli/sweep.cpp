#include "cli/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/time.hpp"
#include "energy/formats.hpp"
#include "report/charts.hpp"

namespace spillway::cli {
namespace {

struct SweepPoint {
  double open_below = 0, hysteresis = 0, min_length_s = 0;
  RunOutcome outcome;
  bool best = false;  // no other point is at least as good in both and better in one

  bool counts() const { return outcome.finished && outcome.unknown_kwh() == 0; }
  double hours() const { return outcome.runtime_s / 3600; }
  double kg() const { return outcome.emissions_g() / 1000; }
};

// Values to try; empty: as configured.
struct Ranges {
  std::vector<double> open_below, hysteresis, min_length_s;
};

void add_range(const std::string& sweep, Ranges* ranges) {
  const auto equals = sweep.find('=');
  const std::string key = sweep.substr(0, equals);
  std::vector<double>* target = key == "open-below"   ? &ranges->open_below
                                : key == "hysteresis" ? &ranges->hysteresis
                                : key == "min-length" ? &ranges->min_length_s
                                                      : nullptr;
  if (target == nullptr || equals == std::string::npos)
    fail(ExitCode::usage, "--sweep {}: expected open-below=…, hysteresis=… or min-length=…", sweep);
  std::stringstream stream(sweep.substr(equals + 1));
  for (std::string text; std::getline(stream, text, ',');) {
    const auto value = key == "min-length" ? parse_duration(text) : parse_number(text);
    if (!value || (key != "open-below" && *value < 0))
      fail(ExitCode::usage, "--sweep {}: '{}' is not a value of {}", sweep, text, key);
    target->push_back(*value);
  }
  if (target->empty()) fail(ExitCode::usage, "--sweep {}: no values", sweep);
}

void fill_defaults(const Scenario& scenario, Ranges* ranges) {
  const ScenarioSite& first = scenario.sites().front();
  if (ranges->open_below.empty()) ranges->open_below = {first.signals.thresholds.open_below};
  if (ranges->hysteresis.empty())
    ranges->hysteresis = {
        std::abs(first.signals.thresholds.close_above - first.signals.thresholds.open_below)};
  if (ranges->min_length_s.empty()) ranges->min_length_s = {first.config.gate.min_length_s};
}

void mark_best(std::vector<SweepPoint>* points) {
  const auto beats = [](const SweepPoint& a, const SweepPoint& b) {
    return a.counts() && a.hours() <= b.hours() && a.kg() <= b.kg() &&
           (a.hours() < b.hours() || a.kg() < b.kg());
  };
  for (SweepPoint& point : *points)
    point.best = point.counts() && std::none_of(points->begin(), points->end(),
                                                [&](const SweepPoint& other) { return beats(other, point); });
}

std::string label(const SweepPoint& point) {
  return fmt::format("{:g} / +{:g} / {}", point.open_below, point.hysteresis,
                     format_duration(point.min_length_s));
}

// Time against emissions: the best as a curve from the fastest to the cleanest, the others as dots.
LineChart sweep_chart(const std::vector<SweepPoint>& points) {
  Curve best{"no other is as good in both", {}, 0, CurveStyle::line, {}};
  Curve others{"others", {}, 1, CurveStyle::points, {}};
  std::vector<const SweepPoint*> ordered;
  for (const SweepPoint& point : points)
    if (point.counts()) ordered.push_back(&point);
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const SweepPoint* a, const SweepPoint* b) { return a->hours() < b->hours(); });
  for (const SweepPoint* point : ordered) {
    Curve& curve = point->best ? best : others;
    curve.points.push_back({point->hours(), point->kg()});
    curve.notes.push_back(fmt::format("{}: {:.2f} h, {:.3f} kg", label(*point), point->hours(), point->kg()));
  }
  LineChart chart;
  chart.title = "time to finish against emissions; open-below / hysteresis / minimum length";
  chart.x.label = "hours to finish";
  chart.y.label = "kg CO2";
  chart.curves = {best, others};
  chart.height = 440;
  return chart;
}

void print(const std::vector<SweepPoint>& points, const std::string& format) {
  if (format == "json") {
    auto list = nlohmann::json::array();
    for (const SweepPoint& point : points)
      list.push_back(
          {{"open_below", point.open_below},
           {"hysteresis", point.hysteresis},
           {"min_length_s", point.min_length_s},
           {"runtime_h", point.outcome.finished ? nlohmann::json(point.hours()) : nlohmann::json()},
           {"emissions_kg", point.outcome.unknown_kwh() > 0 ? nlohmann::json() : nlohmann::json(point.kg())},
           {"energy_kwh", point.outcome.energy_kwh()},
           {"starts", point.outcome.starts()},
           {"pareto", point.best}});
    std::cout << nlohmann::json{{"sweep", list}}.dump(2) << "\n";
    return;
  }
  const bool csv = format == "csv";
  std::cout << (csv ? "open_below,hysteresis,min_length_s,finished,runtime_h,emissions_kg,energy_kwh,starts,"
                      "pareto\n"
                    : fmt::format("{:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7}\n", "open-below",
                                  "hysteresis", "min-length", "hours", "kg CO2", "kWh", "starts"));
  for (const SweepPoint& point : points) {
    const double kwh = point.outcome.energy_kwh();
    const std::string kg = point.outcome.unknown_kwh() > 0 ? "" : fmt::format("{:.4f}", point.kg());
    if (csv)
      std::cout << fmt::format("{},{},{},{},{},{},{},{},{}\n", point.open_below, point.hysteresis,
                               point.min_length_s, point.outcome.finished,
                               point.outcome.finished ? fmt::format("{}", point.hours()) : "", kg, kwh,
                               point.outcome.starts(), point.best);
    else
      std::cout << fmt::format("{:>10g} {:>10g} {:>10} {:>9} {:>9} {:>9.2f} {:>7}{}\n", point.open_below,
                               point.hysteresis, format_duration(point.min_length_s),
                               point.outcome.finished ? fmt::format("{:.2f}", point.hours()) : "never",
                               kg.empty() ? "unknown" : kg, kwh, point.outcome.starts(),
                               point.best ? "  *" : "");
  }
  if (!csv) std::cout << "\n* no other is as good in both hours and kg\n";
}

}  // namespace

void run_sweep(Scenario& scenario, Policy policy, const std::vector<std::string>& sweeps,
               const std::string& format, const std::string& plot) {
  Ranges ranges;
  for (const std::string& sweep : sweeps) add_range(sweep, &ranges);
  fill_defaults(scenario, &ranges);
  std::vector<SweepPoint> points;
  for (const double open_below : ranges.open_below)
    for (const double hysteresis : ranges.hysteresis)
      for (const double min_length_s : ranges.min_length_s) {
        scenario.set_gate(open_below, hysteresis, min_length_s);
        points.push_back({open_below, hysteresis, min_length_s, scenario.simulate(policy), false});
      }
  mark_best(&points);
  print(points, format);
  if (plot.empty()) return;
  const std::string svg = standalone(draw(sweep_chart(points), 720));
  write_file_atomically(plot, {bytes_of(svg)});
}

}  // namespace spillway::cli
