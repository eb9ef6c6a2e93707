// Plans as text, CSV and JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/plan.hpp"
#include "cli/window_json.hpp"
#include "core/time.hpp"

namespace spillway::cli {
namespace {

using Json = nlohmann::json;

Json quantiles_json(const Quantiles& q) { return {{"p10", q.p10}, {"p50", q.p50}, {"p90", q.p90}}; }

// null: some of the energy is drawn while no intensity is known.
Json kg_json(double unknown_kwh, double grams) { return unknown_kwh > 0 ? Json() : Json(grams / 1000); }

Json site_json(const Scenario& scenario, const Plan& plan, std::size_t index) {
  const ScenarioSite& site = scenario.sites()[index];
  const SiteOutcome& outcome = plan.expected.sites[index];
  Json windows = Json::array();
  for (std::size_t i = 0; i < plan.windows[index].size(); ++i) {
    Json window = window_json(plan.windows[index][i]);
    window["open_part"] = plan.spread ? Json(plan.spread->open_part[index][i]) : Json();
    windows.push_back(std::move(window));
  }
  return {{"name", plan.names[index]},
          {"region", site.signals.gate.region},
          {"unit", site.signals.gate.unit},
          {"gate", thresholds_json(site.signals.thresholds)},
          {"grace_s", site.model.grace_s},
          {"nodes", site.config.site.nodes},
          {"windows", windows},
          {"tokens", outcome.tokens},
          {"starts", outcome.starts},
          {"solo_h", outcome.solo_s / 3600},
          {"federated_h", outcome.federated_s / 3600},
          {"energy_kwh", outcome.energy.energy_kwh()},
          {"emissions_kg", kg_json(outcome.energy.unknown_kwh(), outcome.energy.emissions_g())}};
}

Json overlap_json(const Plan& plan, const Overlap& overlap) {
  Json names = Json::array();
  for (const std::size_t site : overlap.sites) names.push_back(plan.names[site]);
  Json result = window_json({overlap.start_unix_s, overlap.end_unix_s});
  result["sites"] = names;
  return result;
}

Json spread_json(const PlanSpread& spread) {
  return {{"draws", spread.draws},
          {"finish_probability", spread.finish_share},
          {"runtime_h", spread.runtime_h ? quantiles_json(*spread.runtime_h) : Json()},
          {"emissions_kg", quantiles_json(spread.emissions_kg)},
          {"energy_kwh", quantiles_json(spread.energy_kwh)},
          {"tokens", quantiles_json(spread.tokens)}};
}

std::string window_lines(const Plan& plan) {
  std::string text = fmt::format("{:<28} {:<20}  {:<20}  {:>8} {:>7}\n", "site", "opens", "closes", "minutes",
                                 plan.spread ? "open %" : "");
  for (std::size_t i = 0; i < plan.names.size(); ++i)
    for (std::size_t j = 0; j < plan.windows[i].size(); ++j) {
      const Window& window = plan.windows[i][j];
      text += fmt::format(
          "{:<28} {:<20}  {:<20}  {:>8.4g} {:>7}\n", plan.names[i], format_utc(window.open_unix_s),
          format_utc(window.close_unix_s), window.length_s() / 60,
          plan.spread ? fmt::format("{:.0f}", 100 * plan.spread->open_part[i][j]) : std::string());
    }
  for (const Overlap& overlap : plan.overlaps) {
    std::string names;
    for (const std::size_t site : overlap.sites) names += (names.empty() ? "" : "+") + plan.names[site];
    text += fmt::format("{:<28} {:<20}  {:<20}  {:>8.4g}\n", names, format_utc(overlap.start_unix_s),
                        format_utc(overlap.end_unix_s), (overlap.end_unix_s - overlap.start_unix_s) / 60);
  }
  return text;
}

std::string spread_lines(const PlanSpread& spread) {
  std::string text = fmt::format(
      "\nif the signals differ from the forecasts as a day differs from the next ({} draws)\n"
      "{:<14} {:>10} {:>10} {:>10}\n",
      spread.draws, "", "p10", "p50", "p90");
  const auto line = [&](const char* name, const Quantiles& q) {
    text += fmt::format("{:<14} {:>10.4g} {:>10.4g} {:>10.4g}\n", name, q.p10, q.p50, q.p90);
  };
  if (spread.runtime_h) line("hours", *spread.runtime_h);
  line("kg CO2", spread.emissions_kg);
  line("kWh", spread.energy_kwh);
  line("tokens", spread.tokens);
  return text + fmt::format("finishes in {:.0f} % of them\n", 100 * spread.finish_share);
}

}  // namespace

std::string plan_json(const Scenario& scenario, const Plan& plan) {
  const RunOutcome& expected = plan.expected;
  Json sites = Json::array(), overlaps = Json::array();
  for (std::size_t i = 0; i < plan.names.size(); ++i) sites.push_back(site_json(scenario, plan, i));
  for (const Overlap& overlap : plan.overlaps) overlaps.push_back(overlap_json(plan, overlap));
  const double start = scenario.run().start_unix_s;
  const Json document = {
      {"format", "spillway-plan"},
      {"version", 1},
      {"policy", policy_name(plan.policy)},
      {"start", format_utc(start)},
      {"forecast_end", format_utc(scenario.run().end_unix_s)},
      {"goal_tokens", scenario.run().tokens},
      {"sites", sites},
      {"overlaps", overlaps},
      {"finished", expected.finished},
      {"finish", expected.finished ? Json(format_utc(start + expected.runtime_s)) : Json()},
      {"runtime_h", expected.finished ? Json(expected.runtime_s / 3600) : Json()},
      {"tokens", expected.tokens},
      {"energy_kwh", expected.energy_kwh()},
      {"emissions_kg", kg_json(expected.unknown_kwh(), expected.emissions_g())},
      {"average_emissions_kg", expected.average_g() ? Json(*expected.average_g() / 1000) : Json()},
      {"solo_h", expected.solo_s / 3600},
      {"federated_h", expected.federated_s / 3600},
      {"paused_h", expected.paused_s / 3600},
      {"uncertainty", plan.spread ? spread_json(*plan.spread) : Json()}};
  return document.dump(2) + "\n";
}

std::string plan_csv(const Plan& plan) {
  std::string text = "site,start,end,minutes\n";
  for (std::size_t i = 0; i < plan.names.size(); ++i)
    for (const Window& window : plan.windows[i])
      text += fmt::format("{},{},{},{}\n", plan.names[i], format_utc(window.open_unix_s),
                          format_utc(window.close_unix_s), window.length_s() / 60);
  return text;
}

std::string plan_text(const Scenario& scenario, const Plan& plan) {
  const RunOutcome& expected = plan.expected;
  const double start = scenario.run().start_unix_s;
  const std::string finish =
      expected.finished
          ? fmt::format("{} ({:.2f} h)", format_utc(start + expected.runtime_s), expected.runtime_s / 3600)
          : fmt::format("not before the forecasts end at {}", format_utc(scenario.run().end_unix_s));
  std::string text = fmt::format("plan from {} for {:.4g} tokens, policy {}\n\n", format_utc(start),
                                 scenario.run().tokens, policy_name(plan.policy));
  text += window_lines(plan);
  text += fmt::format(
      "\nfinish     {}\ntokens     {:.4g}\ntraining   one site {:.2f} h, several {:.2f} h, none {:.2f} h\n"
      "energy     {:.2f} kWh\nemissions  {}\n",
      finish, expected.tokens, expected.solo_s / 3600, expected.federated_s / 3600, expected.paused_s / 3600,
      expected.energy_kwh(),
      expected.unknown_kwh() > 0 ? "unknown" : fmt::format("{:.3f} kg", expected.emissions_g() / 1000));
  if (const auto grams = expected.average_g())
    text += fmt::format("           {:.3f} kg by the average intensity\n", *grams / 1000);
  return text + (plan.spread ? spread_lines(*plan.spread)
                             : "\nno p10, p50, p90: they need two days of signal before the start, to learn "
                               "errors from (and --draws above 0)\n");
}

}  // namespace spillway::cli
