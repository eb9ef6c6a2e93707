// spillway plan: from forecasts to windows per site, and what comes of them.
#include "cli/plan.hpp"

#include <iostream>
#include <limits>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/time.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// Nothing is scheduled after the goal is reached.
void cut_windows(std::vector<std::vector<Window>>* windows, double end_unix_s) {
  for (auto& site : *windows) {
    std::erase_if(site, [&](const Window& window) { return window.open_unix_s >= end_unix_s; });
    if (!site.empty()) site.back().close_unix_s = std::min(site.back().close_unix_s, end_unix_s);
  }
}

// One future: the forecasts with errors, and the live gates in it.
class Future {
 public:
  Future(Scenario& scenario, const std::vector<Signal>& whole, Policy policy, std::uint64_t seed)
      : scenario_(scenario), whole_(whole), policy_(policy), seed_(seed) {}

  // Nothing where the history is too short.
  std::optional<RunOutcome> draw(std::uint64_t number) {
    for (std::size_t i = 0; i < whole_.size(); ++i) {
      // One draw for all sites: they share the weather.
      auto signal = perturbed(whole_[i], scenario_.run().start_unix_s, seed_, number);
      if (!signal) return std::nullopt;
      scenario_.set_signal(i, std::move(*signal));
    }
    windows_ = scenario_.windows(policy_);
    return scenario_.simulate(policy_);
  }
  const std::vector<std::vector<Window>>& windows() const { return windows_; }

 private:
  Scenario& scenario_;
  const std::vector<Signal>& whole_;
  Policy policy_;
  std::uint64_t seed_;
  std::vector<std::vector<Window>> windows_;
};

std::optional<PlanSpread> find_spread(Scenario& scenario, const std::vector<Signal>& whole, const Plan& plan,
                                      int draws, std::uint64_t seed) {
  PlanSpread spread;
  spread.draws = draws;
  for (const auto& site : plan.windows) spread.open_part.emplace_back(site.size(), 0.0);
  std::vector<double> kg, kwh, tokens, hours;
  Future future(scenario, whole, plan.policy, seed);
  for (int draw = 0; draw < draws; ++draw) {
    const auto outcome = future.draw(static_cast<std::uint64_t>(draw));
    if (!outcome) return std::nullopt;
    kg.push_back(outcome->emissions_g() / 1000);
    kwh.push_back(outcome->energy_kwh());
    tokens.push_back(outcome->tokens);
    if (outcome->finished) hours.push_back(outcome->runtime_s / 3600);
    for (std::size_t i = 0; i < plan.windows.size(); ++i)
      for (std::size_t j = 0; j < plan.windows[i].size(); ++j)
        spread.open_part[i][j] += covered_part(plan.windows[i][j], future.windows()[i]) / draws;
  }
  spread.emissions_kg = quantiles(kg);
  spread.energy_kwh = quantiles(kwh);
  spread.tokens = quantiles(tokens);
  spread.finish_share = static_cast<double>(hours.size()) / draws;
  if (spread.finish_share >= 0.9) {
    // Draws that do not finish are later than all that do.
    hours.resize(static_cast<std::size_t>(draws), std::numeric_limits<double>::max());
    spread.runtime_h = quantiles(hours);
  }
  return spread;
}

}  // namespace

Plan make_plan(Scenario& scenario, Policy policy, int draws, std::uint64_t seed) {
  Plan plan;
  plan.policy = policy;
  std::vector<Signal> whole;
  for (std::size_t i = 0; i < scenario.sites().size(); ++i) {
    plan.names.push_back(scenario.sites()[i].model.name);
    whole.push_back(scenario.sites()[i].signals.gate);
    plan.forecasts.push_back(signal_from(whole.back(), scenario.run().start_unix_s));
    scenario.set_forecast(i, plan.forecasts.back());
    scenario.set_signal(i, plan.forecasts.back());
  }
  // With the forecast at hand, the windows that last are known.
  const Policy planned = policy == Policy::forecast ? Policy::foresight : policy;
  plan.windows = scenario.windows(planned);
  plan.expected = scenario.simulate(planned);
  cut_windows(&plan.windows, scenario.run().start_unix_s + plan.expected.runtime_s);
  plan.overlaps = find_overlaps(plan.windows);
  if (draws > 0) plan.spread = find_spread(scenario, whole, plan, draws, seed);
  return plan;
}

int run_plan(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "plan";
  spec.summary =
      "Plans windows per site from forecasts, and says what comes of them and how sure that is.\n"
      "The signals from --from on are taken for the forecasts; what is before them shows how much a "
      "forecast\n"
      "errs. --format json is the input of slurm/submit-windows; traces/README.md describes it.";
  spec.usage = "spillway plan --config FILE.ini [--from INSTANT] [options]";
  std::string format, policy_text, html_file, timeline_file;
  int draws = 0;
  std::string horizon_text;
  spec.options.add_options()("format", po::value(&format)->default_value("text"), "text, csv or json")(
      "policy", po::value(&policy_text)->default_value("forecast"),
      "reactive, hysteresis, forecast (windows that last gate.min-length) or oracle (no costs: a bound)")(
      "horizon", po::value(&horizon_text)->default_value("0s"),
      "length of the plan; signals that end before go on as their last day did; 0s: until they end")(
      "draws", po::value(&draws)->default_value(200), "futures drawn for p10, p50 and p90; 0: none")(
      "html", po::value(&html_file)->default_value(""), "page to write, with timeline and forecasts")(
      "timeline", po::value(&timeline_file)->default_value(""), "SVG file with the windows of all sites");
  spec.aliases = {{"signal", "signal.file"}, {"from", "clock.start"}, {"tokens", "simulate.tokens"}};
  spec.sections = {"signal", "forecast", "emissions", "average", "excess",
                   "gate",   "site",     "simulate",  "local"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (format != "text" && format != "csv" && format != "json")
    fail(ExitCode::usage, "--format {}: must be text, csv or json", format);
  if (draws < 0 || draws > 100000) fail(ExitCode::usage, "--draws {}: must be from 0 to 100000", draws);
  const Policy policy = parse_policy(policy_text);
  const auto horizon_s = parse_duration(horizon_text);
  if (!horizon_s || *horizon_s < 0)
    fail(ExitCode::usage, "--horizon {}: expected a duration such as 36h or 2d", horizon_text);
  Scenario scenario(spec, arguments, *config, false, *horizon_s);
  const Plan plan = make_plan(scenario, policy, draws, config->simulate.seed);
  std::cout << (format == "csv"    ? plan_csv(plan)
                : format == "json" ? plan_json(scenario, plan)
                                   : plan_text(scenario, plan));
  const auto write = [](const std::string& path, const std::string& text) {
    if (!path.empty()) write_file_atomically(path, {bytes_of(text)});
  };
  if (!html_file.empty()) write(html_file, plan_html(scenario, plan));
  if (!timeline_file.empty()) write(timeline_file, plan_svg(scenario, plan));
  return 0;
}

}  // namespace spillway::cli
