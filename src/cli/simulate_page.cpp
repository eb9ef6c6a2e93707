#include "cli/simulate_page.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cli/versions.hpp"
#include "core/clock.hpp"
#include "core/time.hpp"
#include "report/run_page.hpp"
#include "report/units.hpp"
#include "train/gate_description.hpp"
#include "train/run_report.hpp"

namespace spillway::cli {
namespace {

using nlohmann::json;

json piece(double from, double to, const char* phase) {
  return {{"from_unix_s", from}, {"to_unix_s", to}, {"phase", phase}};
}

// A site's windows as what it does in them; where another one trains too, the training is federated.
json activity(const Scenario& scenario, const std::vector<std::vector<Window>>& windows, std::size_t own,
              double end_unix_s) {
  const SiteModel& model = scenario.sites()[own].model;
  json pieces = json::array();
  const auto add = [&](double from, double to, const char* phase) {
    from = std::max(from, scenario.run().start_unix_s);
    to = std::min(to, end_unix_s);
    if (to > from) pieces.push_back(piece(from, to, phase));
  };
  for (const Window& window : windows[own]) {
    const double ready = std::min(window.open_unix_s + model.start_delay_s, window.close_unix_s);
    add(window.open_unix_s, ready, "startup");
    std::vector<double> cuts = {ready, window.close_unix_s};
    for (std::size_t i = 0; i < windows.size(); ++i)
      for (const Window& other : windows[i])
        for (const double at :
             {other.open_unix_s + scenario.sites()[i].model.start_delay_s, other.close_unix_s})
          if (i != own && at > ready && at < window.close_unix_s) cuts.push_back(at);
    std::sort(cuts.begin(), cuts.end());
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
      bool together = false;
      for (std::size_t i = 0; i < windows.size(); ++i)
        for (const Window& other : windows[i])
          together = together ||
                     (i != own && cuts[k] >= other.open_unix_s + scenario.sites()[i].model.start_delay_s &&
                      cuts[k] < other.close_unix_s);
      add(cuts[k], cuts[k + 1], together ? "federated" : "solo");
    }
    if (ready < window.close_unix_s) add(window.close_unix_s, window.close_unix_s + model.grace_s, "drain");
  }
  return pieces;
}

json describe_signal(const ScenarioSite& site, double from, double to) {
  const SiteSignals& signals = site.signals;
  const auto pointer = [](const std::optional<Signal>& signal) { return signal ? &*signal : nullptr; };
  return describe_gate(
      site.config, {&signals.gate, pointer(signals.average), site.emissions.get(), pointer(signals.excess)},
      signals.thresholds, site.model.open, {from, to});
}

json describe_baselines(const RunOutcome& outcome, const std::vector<NamedOutcome>& baselines) {
  json always = json::object(), wait = json::object();
  for (const NamedOutcome& baseline : baselines) {
    const bool finished = baseline.outcome.finished && baseline.outcome.unknown_kwh() == 0;
    const double grams = baseline.outcome.emissions_g();
    const json entry = {
        {"emissions_g", finished ? json(grams) : json(nullptr)},
        {"ratio", finished && grams > 0 ? json(outcome.emissions_g() / grams) : json(nullptr)},
        {"hours", finished ? json(baseline.outcome.runtime_s / 3600) : json(nullptr)}};
    constexpr std::string_view waits = "wait-awhile ";
    if (baseline.name.starts_with(waits))
      wait[baseline.name.substr(waits.size())] = entry;
    else if (baseline.name != "random windows")
      always[baseline.name] = entry;
  }
  return {{"always_on", always}, {"wait_awhile", wait}};
}

}  // namespace

std::string simulate_page(const Scenario& scenario, Policy policy, const RunOutcome& outcome,
                          const std::vector<NamedOutcome>& baselines) {
  const RunModel& run = scenario.run();
  const double end = run.start_unix_s + outcome.runtime_s;
  const auto windows = scenario.windows(policy);
  EnergyLedger total;
  json sites = json::array();
  for (std::size_t i = 0; i < scenario.sites().size(); ++i) {
    const ScenarioSite& site = scenario.sites()[i];
    const EnergyLedger& energy = outcome.sites[i].energy;
    total += energy;
    sites.push_back({{"name", site.model.name},
                     {"jobs", std::vector<json>(static_cast<std::size_t>(outcome.sites[i].starts),
                                                {{"batch_kwh", nullptr}})},
                     {"activity", activity(scenario, windows, i, end)},
                     {"signal", describe_signal(site, run.start_unix_s, end)},
                     {"energy", describe_energy(energy)},
                     {"energy_source", "modelled"},
                     {"declared", nullptr},
                     {"series", json::array()},
                     {"speed", nullptr},
                     {"provenance", nullptr},
                     {"tokens", outcome.sites[i].tokens}});
  }
  json assumptions = {
      fmt::format("A simulation under the policy \"{}\", not a run: {} tokens, {} to train them in.",
                  policy_name(policy), readable_count(run.tokens), readable_duration(outcome.runtime_s)),
      fmt::format("Sites that train together lose {} of their time to rounds, at idle power.",
                  readable_percent(run.round_loss)),
      "Always on: one site, or two together, without pause until all tokens are trained. Wait-awhile: one "
      "site alone, in "
      "its own windows."};
  for (const ScenarioSite& site : scenario.sites())
    assumptions.push_back(fmt::format(
        "{}: {} tokens/s while training at {}; {} before the first step of a window at {}; {} of grace after "
        "it; nodes {} "
        "outside windows.",
        site.model.name, readable_count(site.model.tokens_per_s), readable_power(site.model.train_power_w),
        readable_duration(site.model.start_delay_s), readable_power(site.model.idle_power_w),
        readable_duration(site.model.grace_s), site.model.idle_outside ? "idle" : "are off"));
  const json document = {
      {"title", "Simulated run"},
      {"headline", fmt::format("{} of {} tokens in {}, from {} UTC", readable_count(outcome.tokens),
                               readable_count(run.tokens), readable_duration(outcome.runtime_s),
                               format_utc(run.start_unix_s).substr(0, 16))},
      {"state", outcome.finished ? "complete" : "unfinished"},
      {"made_unix_s", system_unix_s()},
      {"run",
       {{"folder", "simulation"},
        {"from_unix_s", run.start_unix_s},
        {"to_unix_s", end},
        {"steps", {{"merged", outcome.tokens}, {"target", run.tokens}}},
        {"tokens", outcome.tokens},
        {"tokens_per_step", 1},
        {"model", nullptr}}},
      {"sites", sites},
      {"rounds", json::array()},
      {"curves", {{"loss", json::object()}, {"validation", json::object()}}},
      {"energy", describe_energy(total)},
      {"network", {{"bytes", 0}, {"kwh_per_gb", 0}, {"kwh", 0}}},
      {"baselines", describe_baselines(outcome, baselines)},
      {"assumptions", assumptions},
      {"notes", json::array()},
      {"versions", versions()}};
  return run_page(document);
}

}  // namespace spillway::cli
