// What spillway plan works out, and how it is written.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/scenario.hpp"
#include "energy/plan.hpp"

namespace spillway::cli {

// What comes of the plan if forecasts err, over many draws of perturbed().
struct PlanSpread {
  int draws = 0;
  Quantiles emissions_kg, energy_kwh, tokens;
  std::optional<Quantiles> runtime_h;  // only where at least 9 of 10 draws finish
  double finish_share = 0;
  // [site][window]: mean part of the planned window that is open.
  std::vector<std::vector<double>> open_part;
};

struct Plan {
  Policy policy = Policy::forecast;
  std::vector<std::string> names;
  std::vector<Signal> forecasts;  // from the start on
  // Of each site, without the grace period; cut where the tokens are trained.
  std::vector<std::vector<Window>> windows;
  std::vector<Overlap> overlaps;
  RunOutcome expected;               // if the forecasts come true
  std::optional<PlanSpread> spread;  // nothing where the signals have no history to learn errors from
};

// Plans the scenario from its start on; its signals are taken for the forecasts. Changes the scenario's signals.
Plan make_plan(Scenario& scenario, Policy policy, int draws, std::uint64_t seed);

// The plan in the layout that traces/README.md describes; the input of slurm/submit-windows.
std::string plan_json(const Scenario& scenario, const Plan& plan);
std::string plan_csv(const Plan& plan);
std::string plan_text(const Scenario& scenario, const Plan& plan);
// One page with the timeline, the forecasts and the tables; and the timeline alone, an SVG document.
std::string plan_html(const Scenario& scenario, const Plan& plan);
std::string plan_svg(const Scenario& scenario, const Plan& plan);

}  // namespace spillway::cli
