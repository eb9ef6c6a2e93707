// Plans as pictures: a page with the timeline and the forecasts.
#include <fmt/format.h>

#include "cli/plan.hpp"
#include "core/time.hpp"
#include "report/charts.hpp"
#include "report/page.hpp"
#include "report/units.hpp"

namespace spillway::cli {
namespace {

constexpr int kSoloColor = 0, kFederatedColor = 1;

std::string span_text(double from_unix_s, double to_unix_s) {
  return fmt::format("{} to {}, {}", format_utc(from_unix_s), format_utc(to_unix_s),
                     readable_duration(to_unix_s - from_unix_s));
}

std::string others_of(const Plan& plan, const Overlap& overlap, std::size_t site) {
  std::string text;
  for (const std::size_t other : overlap.sites)
    if (other != site) text += (text.empty() ? "" : ", ") + plan.names[other];
  return text;
}

// A window in the stretches that the site is alone and in those that it shares.
void add_pieces(const Plan& plan, std::size_t site, const Window& window, Lane* lane) {
  double at = window.open_unix_s;
  const auto add_alone = [&](double until) {
    if (until > at)
      lane->pieces.push_back({at, until, kSoloColor, plan.names[site] + " alone: " + span_text(at, until)});
  };
  for (const Overlap& overlap : plan.overlaps) {
    const bool here = std::find(overlap.sites.begin(), overlap.sites.end(), site) != overlap.sites.end();
    if (!here || overlap.end_unix_s <= at || overlap.start_unix_s >= window.close_unix_s) continue;
    add_alone(overlap.start_unix_s);
    lane->pieces.push_back({overlap.start_unix_s, overlap.end_unix_s, kFederatedColor,
                            fmt::format("{} with {}: {}", plan.names[site], others_of(plan, overlap, site),
                                        span_text(overlap.start_unix_s, overlap.end_unix_s))});
    at = overlap.end_unix_s;
  }
  add_alone(window.close_unix_s);
}

double end_of(const Scenario& scenario, const Plan& plan) {
  return scenario.run().start_unix_s + plan.expected.runtime_s;
}

LaneChart timeline(const Scenario& scenario, const Plan& plan) {
  LaneChart chart;
  chart.title = "when which site trains";
  chart.from_unix_s = scenario.run().start_unix_s;
  chart.to_unix_s = end_of(scenario, plan);
  chart.legend = {{"one site", kSoloColor}, {"several sites", kFederatedColor}};
  for (std::size_t i = 0; i < plan.names.size(); ++i) {
    Lane lane{plan.names[i], {}, {}};
    for (const Window& window : plan.windows[i]) add_pieces(plan, i, window, &lane);
    chart.lanes.push_back(std::move(lane));
  }
  return chart;
}

LineChart forecast_chart(const Scenario& scenario, const Plan& plan, std::size_t index) {
  const ScenarioSite& site = scenario.sites()[index];
  const Signal& signal = plan.forecasts[index];
  LineChart chart;
  chart.title = "forecast of " + plan.names[index];
  chart.x.kind = AxisKind::time;
  chart.x.low = scenario.run().start_unix_s;
  chart.x.high = end_of(scenario, plan);
  chart.y.label = signal.region + ", " + signal.unit;
  chart.height = 200;
  Curve curve{"forecast", {}, 0, CurveStyle::step, {}};
  for (std::size_t i = 0; i < signal.values.size() && signal.times_unix_s[i] < chart.x.high; ++i)
    curve.points.push_back({signal.times_unix_s[i], signal.values[i]});
  chart.curves.push_back(std::move(curve));
  const GateThresholds& gate = site.signals.thresholds;
  chart.levels.push_back(
      {gate.open_below, fmt::format("opens {} {:g}", gate.above ? "above" : "below", gate.open_below)});
  for (const Window& window : plan.windows[index])
    chart.windows.push_back(
        {window.open_unix_s, window.close_unix_s, span_text(window.open_unix_s, window.close_unix_s)});
  return chart;
}

std::string window_table(const Plan& plan) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < plan.names.size(); ++i)
    for (std::size_t j = 0; j < plan.windows[i].size(); ++j) {
      const Window& window = plan.windows[i][j];
      rows.push_back(
          {plan.names[i], format_utc(window.open_unix_s), format_utc(window.close_unix_s),
           readable_duration(window.length_s()),
           plan.spread ? fmt::format("{:.0f} %", 100 * plan.spread->open_part[i][j]) : std::string("–")});
    }
  return html_table({"site", "opens", "closes", "#length", "#open, expected"}, rows);
}

std::string spread_table(const PlanSpread& spread) {
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const char* name, const Quantiles& q, auto text) {
    rows.push_back({name, text(q.p10), text(q.p50), text(q.p90)});
  };
  const auto hours = [](double value) { return readable_duration(3600 * value); };
  if (spread.runtime_h) row("time to finish", *spread.runtime_h, hours);
  row("emissions", spread.emissions_kg, [](double kg) { return readable_mass(1000 * kg); });
  row("energy", spread.energy_kwh, readable_energy);
  row("tokens", spread.tokens, readable_count);
  return html_table({"", "#p10", "#p50", "#p90"}, rows);
}

}  // namespace

std::string plan_svg(const Scenario& scenario, const Plan& plan) {
  return standalone(draw(timeline(scenario, plan), 960));
}

std::string plan_html(const Scenario& scenario, const Plan& plan) {
  const RunOutcome& expected = plan.expected;
  const std::string start = format_utc(scenario.run().start_unix_s);
  std::string body = html_tiles(
      {{"finish", expected.finished ? readable_duration(expected.runtime_s) : "not finished",
        expected.finished ? format_utc(end_of(scenario, plan)) : "the forecasts end before"},
       {"tokens", readable_count(expected.tokens), "of " + readable_count(scenario.run().tokens)},
       {"energy", readable_energy(expected.energy_kwh()),
        fmt::format("{} starts of a site", expected.starts())},
       {"emissions", expected.unknown_kwh() > 0 ? "unknown" : readable_mass(expected.emissions_g()),
        "if the forecasts come true"}});
  body +=
      html_section("timeline", "Windows",
                   fmt::format("One site trains {}, several {}, none {}.", readable_duration(expected.solo_s),
                               readable_duration(expected.federated_s), readable_duration(expected.paused_s)),
                   responsive(timeline(scenario, plan)) + window_table(plan));
  if (plan.spread)
    body += html_section(
        "uncertainty", "How sure that is",
        fmt::format("{} futures, in which the signals differ from the forecasts as a day of their past "
                    "differs from the next; {:.0f} % of them finish.",
                    plan.spread->draws, 100 * plan.spread->finish_share),
        spread_table(*plan.spread));
  std::string forecasts;
  for (std::size_t i = 0; i < plan.names.size(); ++i)
    forecasts += html_figure(plan.names[i], responsive(forecast_chart(scenario, plan, i)));
  body += html_section("forecasts", "Forecasts", "", forecasts);
  return html_page("Plan from " + start,
                   fmt::format("<h1>Plan from {}</h1>\n<p class=\"soft\">policy {}, {} sites</p>\n", start,
                               policy_name(plan.policy), plan.names.size()),
                   body);
}

}  // namespace spillway::cli
