// Signals, learning and speed of a run.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "core/time.hpp"
#include "report/charts.hpp"
#include "report/run_parts.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

using nlohmann::json;

// Phases have the same colour in every chart.
const std::array<std::pair<const char*, int>, 6> kPhaseColors = {
    {{"startup", 4}, {"solo", 0}, {"federated", 2}, {"checkpoint", 3}, {"drain", 1}, {"idle", 6}}};

constexpr int kAverageColor = 6;  // of signals beside the gate's

int phase_color(const std::string& phase) {
  for (const auto& [name, color] : kPhaseColors)
    if (phase == name) return color;
  return 6;
}

std::string time_of_day(double unix_s) { return format_utc(unix_s).substr(11, 5); }

std::vector<Span> window_spans(const json& signal) {
  std::vector<Span> spans;
  for (const json& window : signal.at("windows"))
    spans.push_back({number(window.at(0)), number(window.at(1)),
                     fmt::format("window {} to {} UTC", time_of_day(number(window.at(0))),
                                 time_of_day(number(window.at(1))))});
  return spans;
}

Curve curve_of(const std::string& name, const json& signal, int color) {
  Curve curve{name, {}, color, CurveStyle::step};
  for (const json& point : signal.at("points"))
    curve.points.push_back({number(point.at(0)), number(point.at(1))});
  return curve;
}

LineChart chart_over_run(const json& document, const std::string& title, const std::string& unit) {
  LineChart chart;
  chart.title = title;
  chart.height = 200;
  chart.x = {"UTC", AxisKind::time, number(document.at("run").at("from_unix_s")),
             number(document.at("run").at("to_unix_s"))};
  chart.y = {unit, AxisKind::number, 0, 0};
  chart.from_zero = true;
  return chart;
}

// The gate's signal with its levels and windows; the average intensity in the same picture where both are intensities.
std::string signal_chart(const json& document, const json& site, int color) {
  const json& signal = site.at("signal");
  const std::string unit = signal.at("unit"), name = site.at("name");
  LineChart chart = chart_over_run(document, "Signal of " + name, unit);
  const json& average = signal.at("average");
  const bool together = average.is_object() && average.at("unit") == unit;
  chart.curves.push_back(curve_of(together ? "marginal" : name, signal, color));
  if (together) chart.curves.push_back(curve_of("average", average, kAverageColor));
  chart.windows = window_spans(signal);
  const double open = number(signal.at("open_below")), close = number(signal.at("close_above"));
  const bool above = signal.at("above").get<bool>();
  chart.levels.push_back({open, fmt::format("opens {} {}", above ? "above" : "below", readable(open))});
  if (close != open)
    chart.levels.push_back({close, fmt::format("closes {} {}", above ? "below" : "above", readable(close))});
  if (together && signal.at("average_below").is_number())
    chart.levels.push_back({number(signal["average_below"]),
                            fmt::format("average below {}", readable(number(signal["average_below"])))});
  return responsive(chart);
}

// The site's other signals, where the first picture does not have them.
std::string beside_charts(const json& document, const json& site) {
  const json& signal = site.at("signal");
  std::string text;
  for (const auto& [key, what] :
       {std::pair("average", "average intensity"), std::pair("emissions", "intensity of emissions"),
        std::pair("excess", "excess power")}) {
    const json& beside = signal.at(key);
    if (!beside.is_object() || (key == std::string("average") && beside.at("unit") == signal.at("unit")))
      continue;
    const std::string caption = fmt::format("{}: {}", site.at("name").get<std::string>(), what);
    LineChart chart = chart_over_run(document, caption, beside.at("unit"));
    chart.curves.push_back(curve_of(what, beside, kAverageColor));
    chart.windows = window_spans(signal);
    text += html_figure(caption, responsive(chart));
  }
  return text;
}

std::string activity_chart(const json& document) {
  LaneChart chart;
  chart.title = "What each site did";
  chart.from_unix_s = number(document.at("run").at("from_unix_s"));
  chart.to_unix_s = number(document.at("run").at("to_unix_s"));
  std::array<bool, kPhaseColors.size()> used = {};
  for (const json& site : document.at("sites")) {
    Lane lane{site.at("name"), {}, {}};
    if (site.at("signal").is_object()) lane.windows = window_spans(site["signal"]);
    for (const json& piece : site.at("activity")) {
      const std::string phase = piece.at("phase");
      for (std::size_t i = 0; i < used.size(); ++i) used[i] = used[i] || phase == kPhaseColors[i].first;
      const double from = number(piece.at("from_unix_s")), to = number(piece.at("to_unix_s"));
      lane.pieces.push_back({from, to, phase_color(phase),
                             fmt::format("{}: {} to {} UTC, {}", phase, time_of_day(from), time_of_day(to),
                                         readable_duration(to - from))});
    }
    chart.lanes.push_back(std::move(lane));
  }
  for (std::size_t i = 0; i < used.size(); ++i)
    if (used[i]) chart.legend.emplace_back(kPhaseColors[i].first, kPhaseColors[i].second);
  return responsive(chart);
}

struct Against {
  const char* key;
  const char* caption;
  const char* label;
  AxisKind kind;
};
constexpr std::array kAgainst = {Against{"tokens", "against tokens", "tokens in the model", AxisKind::count},
                                 Against{"hours", "against time", "hours since the start", AxisKind::number},
                                 Against{"kwh", "against energy", "kWh, all sites", AxisKind::number},
                                 Against{"g", "against emissions", "g CO₂, all sites", AxisKind::number}};

std::string learning_charts(const json& document, const char* which, const char* name, const char* unit) {
  const json& curves = document.at("curves").at(which);
  if (curves.empty()) return "";
  std::string text;
  for (const Against& against : kAgainst) {
    LineChart chart;
    chart.title = fmt::format("{} {}", name, against.caption);
    chart.x = {against.label, against.kind, 0, 0};
    chart.y = {unit, AxisKind::number, 0, 0};
    chart.height = 240;
    int color = 0;
    for (const json& site : document.at("sites")) {
      const std::string key = site.at("name");
      Curve curve{key, {}, color++, which == std::string("loss") ? CurveStyle::fine : CurveStyle::line};
      if (curves.contains(key))
        for (const json& row : curves.at(key))
          curve.points.push_back({number(row.at(against.key)), number(row.at("value"))});
      if (!curve.points.empty()) chart.curves.push_back(std::move(curve));
    }
    text += html_figure(fmt::format("{} {}", name, against.caption), responsive(chart, 470));
  }
  return "<div class=\"grid2\">" + text + "</div>\n";
}

}  // namespace

std::string signals_section(const json& document) {
  std::string charts;
  int color = 0;
  for (const json& site : document.at("sites")) {
    const int own = color++;
    if (!site.at("signal").is_object()) continue;
    const std::string name = site.at("name"), region = site["signal"].at("region");
    const std::string live = site["signal"].at("live").get<bool>() ? " (live, as the site saw it)" : "";
    charts += html_figure((region == name || region.empty() ? name : name + ": " + region) + live,
                          signal_chart(document, site, own)) +
              beside_charts(document, site);
  }
  return html_section(
      "signals", "Signals, windows, and what each site did",
      "Shaded: the site's windows, in which it trains alone or with the others; outside it is suspended.",
      html_figure("What each site did", activity_chart(document)) + charts);
}

std::string learning_section(const json& document) {
  const std::string charts = learning_charts(document, "validation", "Validation", "bits per byte") +
                             learning_charts(document, "loss", "Training loss", "nats per token");
  if (charts.empty()) return "";
  return html_section(
      "learning", "Learning",
      "The same losses over what they cost: tokens, time, energy and emissions of all sites together.",
      charts);
}

std::string speed_section(const json& document) {
  LineChart chart;
  chart.title = "Throughput";
  chart.x = {"UTC", AxisKind::time, number(document.at("run").at("from_unix_s")),
             number(document.at("run").at("to_unix_s"))};
  chart.y = {"tokens/s while training", AxisKind::count, 0, 0};
  chart.from_zero = true;
  int color = 0;
  std::vector<std::vector<std::string>> rows;
  for (const json& site : document.at("sites")) {
    Curve curve{site.at("name"), {}, color++, CurveStyle::fine};
    double last = NAN;
    for (const json& row : site.at("series")) {
      const double at = number(row.at("unix_s")), speed = number(row.at("tokens_per_s"));
      if (!std::isfinite(speed)) continue;
      if (at - last > 3600) curve.points.push_back({at, NAN});  // another window
      curve.points.push_back({at, speed});
      last = at;
    }
    if (!curve.points.empty()) chart.curves.push_back(std::move(curve));
    if (!site.at("speed").is_object()) continue;
    const json& speed = site["speed"];
    rows.push_back({site.at("name"), readable_count(number(speed.at("tokens_per_s"))),
                    readable_duration(number(speed.at("trained_s"))),
                    speed.at("peak_tflops").is_number() ? readable(number(speed["peak_tflops"])) + " TFLOP/s"
                                                        : "unknown",
                    readable_percent(number(speed.at("mfu_nanochat"))),
                    readable_percent(number(speed.at("mfu_causal")))});
  }
  if (chart.curves.empty() && rows.empty()) return "";
  std::string text;
  if (!chart.curves.empty()) text += html_figure("Throughput", responsive(chart));
  if (!rows.empty())
    text += html_table(
        {"site", "#tokens/s", "#real time in steps", "#peak", "#MFU, nanochat's", "#MFU, causal"}, rows);
  return html_section(
      "speed", "Speed",
      "Tokens per real second inside optimizer steps. MFU is the share of the devices' peak, where "
      "site.peak-tflops says it.",
      text);
}

}  // namespace spillway
