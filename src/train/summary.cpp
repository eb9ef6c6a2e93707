#include "train/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <vector>

#include "data/ledger.hpp"
#include "energy/baselines.hpp"
#include "energy/energy_ledger.hpp"
#include "energy/signal.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/journal.hpp"
#include "train/run_history.hpp"
#include "train/telemetry.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

struct SiteResult {
  TrainingRecord record;
  EnergyLedger energy;
};

// The energy is the log's: it knows more than the checkpoint, the last checkpoint's own energy for one.
SiteResult read_site(const std::filesystem::path& folder) {
  SiteResult result;
  if (const auto file = newest_checkpoint(folder))
    result.record = read_training_record(CheckpointReader(*file));
  const auto log = TelemetryLog::read(folder / TelemetryLog::kFileName);
  if (!log.empty()) result.energy = log.back().energy;
  return result;
}

nlohmann::json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

// First and last by global step over all sites.
nlohmann::json first_and_last(std::vector<std::pair<std::int64_t, double>> points) {
  if (points.empty()) return {{"first", nullptr}, {"last", nullptr}};
  std::sort(points.begin(), points.end());
  return {{"first", number_or_null(points.front().second)}, {"last", number_or_null(points.back().second)}};
}

// Losses of single steps are noisy: the mean of the first and of the last ten.
nlohmann::json smoothed_ends(std::vector<std::pair<std::int64_t, double>> points) {
  if (points.empty()) return {{"first", nullptr}, {"last", nullptr}};
  std::sort(points.begin(), points.end());
  const std::size_t count = std::min<std::size_t>(10, points.size());
  double first = 0, last = 0;
  for (std::size_t i = 0; i < count; ++i) {
    first += points[i].second / static_cast<double>(count);
    last += points[points.size() - 1 - i].second / static_cast<double>(count);
  }
  return {{"first", first}, {"last", last}};
}

nlohmann::json baseline(const Config& config, double start_unix_s, double energy_kwh) {
  const SignalConfig& source = config.emissions.file.empty() ? config.signal : config.emissions;
  if (source.file.empty()) return nullptr;
  const Signal signal = read_signal(source);
  const auto grams =
      always_on_emissions_g(signal, start_unix_s, energy_kwh, config.site.train_power_w * config.site.pue);
  return grams ? nlohmann::json(*grams) : nlohmann::json(nullptr);
}

std::string cell(const nlohmann::json& value, fmt::string_view format) {
  return value.is_number() ? fmt::format(fmt::runtime(format), value.get<double>()) : "–";
}

}  // namespace

nlohmann::json summarize_run(const Config& common, const std::map<std::string, Config>& sites,
                             double wall_s) {
  nlohmann::json summary;
  std::vector<std::pair<std::int64_t, double>> losses, validations;
  EnergyLedger total;  // whole millijoules: sums of kWh would differ from the report in the last digit
  std::int64_t tokens = 0;
  summary["sites"] = nlohmann::json::object();
  for (const auto& [name, config] : sites) {
    const auto [record, energy] = read_site(std::filesystem::path(common.run.dir) / name);
    summary["sites"][name] = {{"windows", record.lineage.size()},  {"trained_s", record.trained_s},
                              {"tokens", record.tokens},           {"suspends", record.suspends},
                              {"energy_kwh", energy.energy_kwh()}, {"emissions_g", energy.emissions_g()}};
    tokens += record.tokens;
    total += energy;
    for (const StepRow& row : record.steps) losses.emplace_back(row.step, row.loss_nats);
    for (const ValidationRow& row : record.validations) validations.emplace_back(row.step, row.bits_per_byte);
  }
  RunHistory history(common.train.steps);
  const auto journal = std::filesystem::path(common.run.dir) / "hub" / "journal.jsonl";
  double start_unix_s = 0;
  for (const auto& entry : Journal::read(journal)) {
    if (start_unix_s == 0 && entry.contains("clock"))
      start_unix_s = entry.at("clock").at("start_unix_s").get<double>();
    history.apply(entry);
  }
  const double energy_kwh = total.energy_kwh(), emissions_g = total.emissions_g();
  summary["tokens"] = tokens;
  summary["steps"] = {{"merged", history.committed.blocks}, {"target", common.train.steps}};
  summary["rounds"] = {{"solo", history.rounds_solo}, {"federated", history.rounds_federated}};
  summary["val_bpb"] = first_and_last(std::move(validations));
  summary["train_loss"] = smoothed_ends(std::move(losses));
  summary["energy_kwh"] = energy_kwh;
  summary["emissions_g"] = emissions_g;
  summary["in_window_energy_fraction"] =
      energy_kwh > 0 ? nlohmann::json(total.inside_kwh() / energy_kwh) : nlohmann::json(nullptr);
  summary["baseline_emissions_g"] = summary["emissions_ratio"] = nlohmann::json::object();
  for (const auto& [name, config] : sites) {
    const auto grams = baseline(config, start_unix_s, energy_kwh);
    summary["baseline_emissions_g"][name] = grams;
    summary["emissions_ratio"][name] = grams.is_number() && grams.get<double>() > 0
                                           ? nlohmann::json(emissions_g / grams.get<double>())
                                           : nlohmann::json(nullptr);
  }
  summary["wall_s"] = wall_s;
  return summary;
}

std::string summary_table(const nlohmann::json& summary) {
  std::string text =
      fmt::format("{:<18} {:>7} {:>9} {:>10} {:>9} {:>11} {:>12} {:>14} {:>9}\n", "site", "windows",
                  "suspends", "tokens", "trained", "energy", "emissions", "always on", "ratio");
  for (const auto& [name, site] : summary.at("sites").items())
    text += fmt::format("{:<18} {:>7} {:>9} {:>10} {:>7.1f} s {:>7.2f} kWh {:>10.1f} g {:>12} g {:>9}\n",
                        name, site.at("windows").get<std::int64_t>(), site.at("suspends").get<std::int64_t>(),
                        site.at("tokens").get<std::int64_t>(), site.at("trained_s").get<double>(),
                        site.at("energy_kwh").get<double>(), site.at("emissions_g").get<double>(),
                        cell(summary.at("baseline_emissions_g").at(name), "{:.1f}"),
                        cell(summary.at("emissions_ratio").at(name), "{:.3f}"));
  const auto& steps = summary.at("steps");
  text += fmt::format("\n{} of {} steps, {} tokens, {} solo and {} federated merges\n",
                      steps.at("merged").get<std::int64_t>(), steps.at("target").get<std::int64_t>(),
                      summary.at("tokens").get<std::int64_t>(),
                      summary.at("rounds").at("solo").get<std::int64_t>(),
                      summary.at("rounds").at("federated").get<std::int64_t>());
  text += fmt::format("training loss {} → {} nats per token; validation {} → {} bits per byte\n",
                      cell(summary.at("train_loss").at("first"), "{:.3f}"),
                      cell(summary.at("train_loss").at("last"), "{:.3f}"),
                      cell(summary.at("val_bpb").at("first"), "{:.3f}"),
                      cell(summary.at("val_bpb").at("last"), "{:.3f}"));
  const auto& share = summary.at("in_window_energy_fraction");
  text +=
      fmt::format("energy {:.2f} kWh, {} % inside windows; emissions {:.1f} g; {:.0f} s on this machine\n",
                  summary.at("energy_kwh").get<double>(),
                  share.is_number() ? fmt::format("{:.1f}", 100 * share.get<double>()) : "–",
                  summary.at("emissions_g").get<double>(), summary.at("wall_s").get<double>());
  text +=
      "always on: the site's emissions had it trained the same tokens alone and without pause, at its "
      "declared power\n";
  return text;
}

}  // namespace spillway
