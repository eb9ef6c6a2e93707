// spillway simulate: what a run over the sites' signals would take and emit, and what it is compared with.
#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <span>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/scenario.hpp"
#include "cli/simulate_page.hpp"
#include "cli/sweep.hpp"
#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/time.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

using Json = nlohmann::json;

double inside_fraction(const RunOutcome& outcome) {
  return outcome.energy_kwh() > 0 ? outcome.inside_kwh() / outcome.energy_kwh() : 0;
}

// null: the signals end before the tokens are trained.
Json runtime_json(const RunOutcome& outcome) {
  return outcome.finished ? Json(outcome.runtime_s / 3600) : Json();
}

// null: some of the energy was drawn while no intensity was known.
Json emissions_json(const RunOutcome& outcome) {
  return outcome.unknown_kwh() > 0 ? Json() : Json(outcome.emissions_g() / 1000);
}

// null: no average intensity is given, or it was unknown.
Json average_json(const RunOutcome& outcome) {
  const auto grams = outcome.average_g();
  return grams ? Json(*grams / 1000) : Json();
}

Json outcome_json(const RunOutcome& outcome) {
  return {{"runtime_h", runtime_json(outcome)},
          {"finished", outcome.finished},
          {"tokens", outcome.tokens},
          {"energy_kwh", outcome.energy_kwh()},
          {"emissions_kg", emissions_json(outcome)},
          {"average_emissions_kg", average_json(outcome)},
          {"unknown_intensity_kwh", outcome.unknown_kwh()},
          {"in_window_energy_fraction", inside_fraction(outcome)},
          {"starts", outcome.starts()},
          {"solo_h", outcome.solo_s / 3600},
          {"federated_h", outcome.federated_s / 3600},
          {"paused_h", outcome.paused_s / 3600}};
}

Json details_json(const Scenario& scenario, const RunOutcome& outcome) {
  Json sites = Json::object(), phases = Json::object();
  for (std::size_t i = 0; i < outcome.sites.size(); ++i) {
    const SiteOutcome& site = outcome.sites[i];
    sites[scenario.sites()[i].model.name] = {{"tokens", site.tokens},
                                             {"starts", site.starts},
                                             {"solo_h", site.solo_s / 3600},
                                             {"federated_h", site.federated_s / 3600},
                                             {"energy_kwh", site.energy.energy_kwh()},
                                             {"emissions_kg", site.energy.emissions_g() / 1000}};
  }
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    phases[kPhaseNames[i]] = {{"energy_kwh", outcome.phase_kwh(static_cast<Phase>(i))},
                              {"emissions_kg", outcome.phase_g(static_cast<Phase>(i)) / 1000}};
  return {{"sites", sites}, {"phases", phases}};
}

void print_row(const std::string& name, const RunOutcome& outcome) {
  const std::string runtime = outcome.finished ? fmt::format("{:.2f}", outcome.runtime_s / 3600)
                                               : fmt::format("> {:.1f}", outcome.runtime_s / 3600);
  const std::string emissions =
      outcome.unknown_kwh() > 0 ? "unknown" : fmt::format("{:.3f}", outcome.emissions_g() / 1000);
  std::cout << fmt::format("{:<26} {:>9} {:>9} {:>9.2f} {:>9.1f} {:>7} {:>11.4g}\n", name, runtime, emissions,
                           outcome.energy_kwh(), 100 * inside_fraction(outcome), outcome.starts(),
                           outcome.tokens);
}

void print_phases(const RunOutcome& outcome) {
  std::cout << fmt::format("\n{:<12} {:>9} {:>9} {:>6}\n", "phase", "kWh", "kg", "% of kg");
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i) {
    const auto phase = static_cast<Phase>(i);
    if (outcome.phase_kwh(phase) <= 0) continue;
    const double share = outcome.emissions_g() > 0 ? 100 * outcome.phase_g(phase) / outcome.emissions_g() : 0;
    std::cout << fmt::format("{:<12} {:>9.2f} {:>9.3f} {:>6.1f}\n", kPhaseNames[i], outcome.phase_kwh(phase),
                             outcome.phase_g(phase) / 1000, share);
  }
}

void print_table(const Scenario& scenario, const std::vector<NamedOutcome>& runs,
                 const std::vector<NamedOutcome>& baselines) {
  std::cout << fmt::format("{} sites, {:.4g} tokens, from {}; signals until {}\n\n", scenario.sites().size(),
                           scenario.run().tokens, format_utc(scenario.run().start_unix_s),
                           format_utc(scenario.run().end_unix_s));
  std::cout << fmt::format("{:<26} {:>9} {:>9} {:>9} {:>9} {:>7} {:>11}\n", "run", "hours", "kg CO2", "kWh",
                           "in-win %", "starts", "tokens");
  for (const NamedOutcome& run : runs) print_row(run.name, run.outcome);
  std::cout << "\ncompared with\n";
  for (const NamedOutcome& baseline : baselines) print_row(baseline.name, baseline.outcome);
  print_phases(runs.front().outcome);
  const RunOutcome& first = runs.front().outcome;
  std::cout << fmt::format("\n{}: one site trains {:.2f} h, several {:.2f} h, none {:.2f} h\n",
                           runs.front().name, first.solo_s / 3600, first.federated_s / 3600,
                           first.paused_s / 3600);
  if (const auto grams = first.average_g())
    std::cout << fmt::format("{}: {:.3f} kg by the average intensity\n", runs.front().name, *grams / 1000);
}

void print_csv(const std::vector<NamedOutcome>& runs, const std::vector<NamedOutcome>& baselines) {
  std::cout << "run,finished,runtime_h,emissions_kg,energy_kwh,in_window_energy_fraction,starts,tokens\n";
  for (const auto* list : {&runs, &baselines})
    for (const NamedOutcome& run : *list) {
      const RunOutcome& outcome = run.outcome;
      std::cout << fmt::format(
          "{},{},{},{},{},{},{},{}\n", run.name, outcome.finished,
          outcome.finished ? fmt::format("{}", outcome.runtime_s / 3600) : "",
          outcome.unknown_kwh() > 0 ? "" : fmt::format("{}", outcome.emissions_g() / 1000),
          outcome.energy_kwh(), inside_fraction(outcome), outcome.starts(), outcome.tokens);
    }
}

void print_json(const Scenario& scenario, const std::vector<NamedOutcome>& runs,
                const std::vector<NamedOutcome>& baselines) {
  const RunOutcome& first = runs.front().outcome;
  Json document = outcome_json(first);
  document["policy"] = runs.front().name;
  document["start"] = format_utc(scenario.run().start_unix_s);
  document.update(details_json(scenario, first));
  document["policies"] = Json::object();
  for (const NamedOutcome& run : runs) document["policies"][run.name] = outcome_json(run.outcome);
  document["baselines"] = Json::object();
  for (const NamedOutcome& baseline : baselines)
    document["baselines"][baseline.name] = outcome_json(baseline.outcome);
  std::cout << document.dump(2) << "\n";
}

}  // namespace

int run_simulate(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "simulate";
  spec.summary =
      "Replays a run over the signals of its sites: time, energy, emissions, and what it is compared with.";
  spec.usage = "spillway simulate --config FILE.ini [--policy P] [--sweep KEY=V1,V2 ...] [options]";
  std::string format, plot, page;
  std::vector<std::string> sweeps;
  bool all_policies = false;
  spec.options.add_options()("format", po::value(&format)->default_value("table"), "table, csv or json")(
      "all-policies", po::bool_switch(&all_policies), "the other policies too, after the chosen one")(
      "sweep", po::value(&sweeps),
      "KEY=V1,V2 ... with KEY open-below, hysteresis or min-length; may be repeated")(
      "page", po::value(&page)->default_value(""),
      "HTML file: the run as `spillway report` shows a real one")(
      "plot", po::value(&plot)->default_value(""), "of a sweep: SVG file, time to finish against emissions");
  spec.aliases = {{"signal", "signal.file"}, {"policy", "simulate.policy"}, {"tokens", "simulate.tokens"}};
  spec.sections = {"signal", "emissions", "average", "excess", "gate", "site", "simulate", "local"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (format != "table" && format != "csv" && format != "json")
    fail(ExitCode::usage, "--format {}: must be table, csv or json", format);
  const Policy policy = parse_policy(config->simulate.policy);
  Scenario scenario(spec, arguments, *config, policy == Policy::forecast || all_policies);
  if (!sweeps.empty()) {
    run_sweep(scenario, policy, sweeps, format, plot);
    return 0;
  }
  if (!plot.empty()) fail(ExitCode::usage, "--plot goes with --sweep");
  std::vector<NamedOutcome> runs = {{policy_name(policy), scenario.simulate(policy)}};
  if (all_policies)
    for (const Policy other : kPolicies)
      if (other != policy) runs.push_back({policy_name(other), scenario.simulate(other)});
  const std::vector<NamedOutcome> baselines = scenario.baselines(policy);
  if (!page.empty()) {
    const std::string text = simulate_page(scenario, policy, runs.front().outcome, baselines);
    write_file_atomically(page, {std::as_bytes(std::span(text))});
  }
  if (format == "csv")
    print_csv(runs, baselines);
  else if (format == "json")
    print_json(scenario, runs, baselines);
  else
    print_table(scenario, runs, baselines);
  return 0;
}

}  // namespace spillway::cli
