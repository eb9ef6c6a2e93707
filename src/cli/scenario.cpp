#include "cli/scenario.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/plan.hpp"

namespace spillway::cli {
namespace {

// A capped site trains only part of the time. One that follows the excess is taken at the least power it runs with: a lower
// bound of its tokens.
void apply_cap(const Config& config, SiteModel* model) {
  double cap_w = config.site.power_cap_w.value_or(0);
  if (config.site.power_cap_excess) {
    cap_w = site_limits(config).capped_from_w;
    log_warning("site {}: its power follows the excess; it is planned with {} W, the least it runs with",
                model->name, cap_w);
  }
  const double train_w = model->train_power_w * model->pue, idle_w = model->idle_power_w * model->pue;
  if (cap_w == 0 || cap_w >= train_w) return;
  model->tokens_per_s *= (cap_w - idle_w) / (train_w - idle_w);
  model->train_power_w = cap_w / model->pue;
}

SiteModel model_of(const Config& config, const std::string& name) {
  const SimulateConfig& simulate = config.simulate;
  const auto need = [&](bool good, const char* key, const char* what) {
    if (!good) fail(ExitCode::usage, "site {}: {} must be {}", name, key, what);
  };
  need(simulate.tokens_per_s > 0, "simulate.tokens-per-s", "more than 0");
  need(config.site.train_power_w > 0, "site.train-power", "more than 0 W");
  need(config.site.idle_power_w >= 0, "site.idle-power", "0 W or more");
  need(config.site.pue >= 1, "site.pue", "1 or more");
  need(simulate.outside == "off" || simulate.outside == "idle", "simulate.outside", "off or idle");
  SiteModel model;
  model.name = name;
  model.tokens_per_s = simulate.tokens_per_s;
  model.start_delay_s = simulate.start_delay_s;
  model.grace_s = config.gate.grace_s;
  model.train_power_w = config.site.train_power_w;
  model.idle_power_w = config.site.idle_power_w;
  model.pue = config.site.pue;
  model.idle_outside = simulate.outside == "idle";
  apply_cap(config, &model);
  return model;
}

std::vector<SiteModel> models(const std::deque<ScenarioSite>& sites) {
  std::vector<SiteModel> result;
  for (const ScenarioSite& site : sites) result.push_back(site.model);
  return result;
}

// When the gate's signal is open, whatever the policy makes of it.
std::vector<Window> open_times(const ScenarioSite& site) {
  GateThresholds plain = site.signals.thresholds;
  plain.grace_s = 0;
  return allowed(site.signals, find_windows(site.signals.gate, plain, 0));
}

}  // namespace

Scenario::Scenario(CommandSpec& spec, const Arguments& arguments, const Config& config, bool with_forecasts,
                   std::optional<double> plan_horizon_s)
    : seed_(config.simulate.seed), plan_horizon_s_(plan_horizon_s) {
  if (!(config.simulate.tokens > 0))
    fail(ExitCode::usage, "simulate.tokens = {}: must be more than 0", config.simulate.tokens);
  if (!(config.simulate.round_loss >= 0 && config.simulate.round_loss < 1))
    fail(ExitCode::usage, "simulate.round-loss = {}: must be from 0 to below 1", config.simulate.round_loss);
  if (!(config.simulate.confidence >= 0 && config.simulate.confidence <= 1))
    fail(ExitCode::usage, "simulate.confidence = {}: must be from 0 to 1", config.simulate.confidence);
  run_.tokens = config.simulate.tokens;
  run_.round_loss = config.simulate.round_loss;
  run_.start_unix_s = -std::numeric_limits<double>::infinity();
  run_.end_unix_s = std::numeric_limits<double>::infinity();
  if (!config.clock.start.empty()) {
    const auto start = parse_utc(config.clock.start);
    if (!start) fail(ExitCode::usage, "clock.start = '{}': expected an ISO 8601 instant", config.clock.start);
    run_.start_unix_s = *start;
  }
  if (config.local.sites.empty()) add_site(config, true, with_forecasts);
  for (const std::string& name : config.local.sites)
    add_site(parse_for_site(spec, arguments, name), true, with_forecasts);
  for (const std::string& name : config.simulate.baseline_sites)
    add_site(parse_for_site(spec, arguments, name), false, false);
  if (run_.start_unix_s >= run_.end_unix_s)
    fail(ExitCode::usage, "the sites' signals (and clock.start) have no time in common: {} is not before {}",
         format_utc(run_.start_unix_s), format_utc(run_.end_unix_s));
}

void Scenario::add_site(const Config& config, bool takes_part, bool with_forecasts) {
  if (config.signal.file.empty())
    fail(ExitCode::usage, "site {}: signal.file is not set; --signal FILE sets it for all", config.site.name);
  ScenarioSite& site = (takes_part ? sites_ : compared_).emplace_back();
  site.config = config;
  site.signals = read_site_signals(config);
  if (plan_horizon_s_) look_ahead(&site);
  site.model = model_of(config, config.site.name);
  site.model.open = open_times(site);
  site.model.intensity = site.signals.gate.is_intensity() ? &site.signals.gate : nullptr;
  site.model.average = site.signals.average ? &*site.signals.average : nullptr;
  if (!config.emissions.file.empty()) {
    site.emissions = std::make_unique<Signal>(read_signal(config.emissions));
    if (!site.emissions->is_intensity())
      fail(ExitCode::usage, "site {}: emissions.file is in {}, not in g/kWh; emissions.unit changes that",
           config.site.name, site.emissions->unit);
    site.model.intensity = site.emissions.get();
  }
  if (config.simulate.forecast != "yesterday" && config.simulate.forecast != "file")
    fail(ExitCode::usage, "simulate.forecast = '{}': must be yesterday or file", config.simulate.forecast);
  if (with_forecasts && config.simulate.forecast == "file")
    site.forecast = std::make_unique<IssuedForecast>(config.signal);
  else
    site.forecast = std::make_unique<YesterdayForecast>(site.signals.gate);
  run_.start_unix_s = std::max(run_.start_unix_s, site.signals.gate.start_unix_s());
  run_.end_unix_s = std::min(run_.end_unix_s, site.signals.gate.end_unix_s());
}

// The site's signals as a plan takes them.
void Scenario::look_ahead(ScenarioSite* site) {
  const Config& config = site->config;
  SiteSignals& signals = site->signals;
  if (!config.forecast.file.empty()) {
    const Signal forecast = read_signal(config.forecast);
    if (forecast.unit != signals.gate.unit)
      fail(ExitCode::usage, "site {}: forecast.file is in {}, signal.file in {}; forecast.unit changes that",
           config.site.name, forecast.unit, signals.gate.unit);
    signals.gate = spliced(signals.gate, forecast);
    if (config.clock.start.empty()) run_.start_unix_s = std::max(run_.start_unix_s, forecast.start_unix_s());
  }
  if (*plan_horizon_s_ <= 0) return;
  const double start = std::max(run_.start_unix_s, signals.gate.start_unix_s());
  const double end = start + *plan_horizon_s_;
  signals.gate = repeated_until(signals.gate, end);
  for (auto* beside : {&signals.average, &signals.excess})
    if (*beside) **beside = repeated_until(**beside, end);
  run_.end_unix_s = std::min(run_.end_unix_s, end);
}

void Scenario::set_gate(double open_below, double hysteresis, double min_length_s) {
  for (ScenarioSite& site : sites_) {
    GateThresholds& thresholds = site.signals.thresholds;
    thresholds.open_below = open_below;
    thresholds.close_above = thresholds.above ? open_below - hysteresis : open_below + hysteresis;
    site.config.gate.min_length_s = min_length_s;
    site.model.open = open_times(site);
  }
}

void Scenario::set_signal(std::size_t site, Signal signal) {
  sites_.at(site).signals.gate = std::move(signal);
  sites_.at(site).model.open = open_times(sites_.at(site));
}

void Scenario::set_forecast(std::size_t site, Signal forecast) {
  sites_.at(site).forecast = std::make_unique<PlannedForecast>(std::move(forecast));
}

std::vector<std::vector<Window>> Scenario::windows(Policy policy) const {
  std::vector<std::vector<Window>> result;
  for (const ScenarioSite& site : sites_) {
    const double min_length_s = site.config.gate.min_length_s;
    auto windows =
        allowed(site.signals, policy_windows(policy, site.signals.gate, site.signals.thresholds, min_length_s,
                                             site.forecast.get(), site.config.simulate.confidence));
    if (policy == Policy::foresight)
      std::erase_if(windows, [&](const Window& window) { return window.length_s() < min_length_s; });
    result.push_back(std::move(windows));
  }
  return result;
}

RunOutcome Scenario::simulate(Policy policy) const {
  std::vector<SiteModel> all = models(sites_);
  RunModel run = run_;
  if (policy == Policy::oracle) {
    run.round_loss = 0;
    for (SiteModel& model : all) model.start_delay_s = model.grace_s = 0;
  }
  return spillway::simulate(all, windows(policy), run);
}

RunOutcome Scenario::always_on_run(const std::vector<const ScenarioSite*>& sites) const {
  std::vector<SiteModel> all;
  for (const ScenarioSite* site : sites) {
    all.push_back(site->model);
    all.back().start_delay_s = 0;
  }
  return spillway::simulate(all, std::vector(all.size(), always_on(run_)), run_);
}

NamedOutcome Scenario::random_run(Policy policy) const {
  const auto placed = windows(policy);
  std::vector<RunOutcome> draws;
  for (int draw = 0; draw < kRandomDraws; ++draw) {
    std::vector<std::vector<Window>> random;
    for (std::size_t i = 0; i < placed.size(); ++i)
      random.push_back(
          random_windows(placed[i], run_, seed_, static_cast<std::uint64_t>(draw) * placed.size() + i));
    draws.push_back(spillway::simulate(models(sites_), random, run_));
  }
  // The median: a mean would mix draws that finish with draws that do not.
  std::sort(draws.begin(), draws.end(),
            [](const RunOutcome& a, const RunOutcome& b) { return a.emissions_g() < b.emissions_g(); });
  return {"random windows", std::move(draws[kRandomDraws / 2])};
}

std::vector<NamedOutcome> Scenario::baselines(Policy policy) const {
  std::vector<NamedOutcome> result;
  for (const auto* list : {&sites_, &compared_})
    for (const ScenarioSite& site : *list) result.push_back({site.model.name, always_on_run({&site})});
  for (std::size_t a = 0; a < sites_.size(); ++a)
    for (std::size_t b = a + 1; b < sites_.size(); ++b)
      result.push_back({fmt::format("{}+{}", sites_[a].model.name, sites_[b].model.name),
                        always_on_run({&sites_[a], &sites_[b]})});
  const auto placed = windows(policy);
  for (std::size_t i = 0; i < sites_.size(); ++i)
    result.push_back(
        {"wait-awhile " + sites_[i].model.name, spillway::simulate({sites_[i].model}, {placed[i]}, run_)});
  result.push_back(random_run(policy));
  return result;
}

}  // namespace spillway::cli
