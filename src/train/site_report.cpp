#include "train/site_report.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/time.hpp"
#include "energy/live_gate.hpp"
#include "energy/site_windows.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/gate_description.hpp"
#include "train/seen_signals.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

using nlohmann::json;

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

// Signals and windows by the code that production uses; a part that cannot be read is noted and left out.
void read_signals(SiteFiles& site) {
  const Config& config = *site.config;
  try {
    if (has_live_signal(config)) {
      SeenSignals seen = seen_signals(site.log);
      site.signal = std::move(seen.gate);
      site.emissions = std::move(seen.emissions);
      site.average = std::move(seen.average);
      site.excess = std::move(seen.excess);
      site.windows = std::move(seen.windows);
      site.thresholds = live_thresholds(config);
      return;
    }
    if (!config.signal.file.empty()) {
      SiteSignals signals = read_site_signals(config);
      site.windows = site_windows(signals, config.gate.min_length_s);
      site.thresholds = signals.thresholds;
      site.signal = std::move(signals.gate);
      site.average = std::move(signals.average);
      site.excess = std::move(signals.excess);
    } else if (!config.average.file.empty()) {
      site.average = read_signal(config.average);
    }
    if (!config.emissions.file.empty()) site.emissions = read_signal(config.emissions);
  } catch (const Error& error) {
    site.notes.push_back(fmt::format("{}: its signals cannot be shown: {}", site.name, error.what()));
  }
}

void read_checkpoint(const std::filesystem::path& folder, SiteFiles& site, const ReportOptions& options) {
  const auto file = newest_checkpoint(folder);
  if (!file) {
    site.notes.push_back(site.name +
                         ": no checkpoint yet: its configuration and losses per step are not known");
    return;
  }
  try {
    site.checkpoint.emplace(*file);
    site.record = read_training_record(*site.checkpoint);
    site.checkpoint_energy = read_energy(*site.checkpoint);
    const Attributes energy = site.checkpoint->attributes("/energy");
    if (const auto source = energy.find("source"); source != energy.end())
      site.energy_source = std::get<std::string>(source->second);
    site.config = options.read_config(read_config_text(*site.checkpoint));
  } catch (const Error& error) {
    site.notes.push_back(fmt::format("{}: {}", site.name, error.what()));
  }
}

// Between two lines of the log, in proportion to time.
template <class Value>
double at_instant(const SiteFiles& site, double unix_s, Value value) {
  if (site.log.empty()) return value(site.energy());
  const auto after = std::upper_bound(site.log.begin(), site.log.end(), unix_s,
                                      [](double at, const TelemetryLine& line) { return at < line.unix_s; });
  if (after == site.log.begin()) return 0;
  const double before = value(std::prev(after)->energy);
  if (after == site.log.end()) return before;
  const double length_s = after->unix_s - std::prev(after)->unix_s;
  return before + (value(after->energy) - before) * (unix_s - std::prev(after)->unix_s) / length_s;
}

json describe_signal(const SiteFiles& site, const Window& span) {
  if (!site.signal || !site.thresholds) return nullptr;
  const auto pointer = [](const std::optional<Signal>& signal) { return signal ? &*signal : nullptr; };
  return describe_gate(
      *site.config,
      {pointer(site.signal), pointer(site.average), pointer(site.emissions), pointer(site.excess)},
      *site.thresholds, site.windows, span);
}

json describe_jobs(const SiteFiles& site, const ReportOptions& options) {
  json jobs = json::array();
  for (std::size_t i = 0; i < site.log.size(); ++i) {
    const TelemetryLine& line = site.log[i];
    if (line.event != "start") continue;
    std::size_t end = i;
    while (end + 1 < site.log.size() && site.log[end + 1].event != "start") ++end;
    const TelemetryLine& last = site.log[end];
    // What the job drew before its first line is in that line already.
    const EnergyLedger before = i == 0 ? EnergyLedger{} : site.log[i - 1].energy;
    const EnergyLedger used = last.energy.since(before);
    json job = {{"from_unix_s", line.unix_s},
                {"to_unix_s", last.unix_s},
                {"first_step", line.step},
                {"last_step", last.step},
                {"tokens", last.tokens - (i == 0 ? 0 : site.log[i - 1].tokens)},
                {"ended", last.event == "end"},
                {"energy_mj", used.total_mj()},
                {"energy_kwh", used.energy_kwh()},
                {"emissions_g", used.emissions_g()},
                {"batch_job", line.job ? json(*line.job) : json(nullptr)},
                {"batch_kwh", nullptr}};
    const auto batch = line.job ? options.batch_joules.find(*line.job) : options.batch_joules.end();
    if (batch != options.batch_joules.end()) job["batch_kwh"] = batch->second / 3.6e6;
    jobs.push_back(job);
  }
  return jobs;
}

// Stretches of one phase; a job's first line ends what is not known.
json describe_activity(const SiteFiles& site) {
  json pieces = json::array();
  for (std::size_t i = 1; i < site.log.size(); ++i) {
    const TelemetryLine &before = site.log[i - 1], &line = site.log[i];
    if (line.event == "start" || line.unix_s <= before.unix_s) continue;
    const char* phase = kPhaseNames[static_cast<std::size_t>(line.phase)];
    if (!pieces.empty() && pieces.back()["phase"] == phase && pieces.back()["to_unix_s"] == before.unix_s)
      pieces.back()["to_unix_s"] = line.unix_s;
    else
      pieces.push_back({{"from_unix_s", before.unix_s}, {"to_unix_s", line.unix_s}, {"phase", phase}});
  }
  return pieces;
}

json describe_series(const SiteFiles& site) {
  json rows = json::array();
  for (std::size_t i = 0; i < site.log.size(); ++i) {
    const TelemetryLine& line = site.log[i];
    json speed = nullptr;
    if (i > 0 && line.trained_s > site.log[i - 1].trained_s && line.tokens > site.log[i - 1].tokens)
      speed = static_cast<double>(line.tokens - site.log[i - 1].tokens) /
              (line.trained_s - site.log[i - 1].trained_s);
    rows.push_back({{"unix_s", line.unix_s},
                    {"step", line.step},
                    {"tokens", line.tokens},
                    {"tokens_per_s", speed},
                    {"energy_kwh", line.energy.energy_kwh()},
                    {"emissions_g", line.energy.emissions_g()}});
  }
  return rows;
}

// The MFU in nanochat's definition; null where the peak of the devices is not known.
json describe_speed(const SiteFiles& site) {
  if (!site.record || site.record->trained_s <= 0 || !site.checkpoint) return nullptr;
  const double tokens_per_s = static_cast<double>(site.record->tokens) / site.record->trained_s;
  const GptSpec spec = read_sizes(*site.checkpoint);
  constexpr double kH100Tflops = 989.4;  // dense bf16, NVIDIA's data sheet
  double peak = 0;
  if (site.config) {
    peak = site.config->site.peak_tflops;
    if (peak == 0 && site.config->train.device == "cuda") peak = kH100Tflops * site.config->site.ranks;
  }
  const auto mfu = [&](double flops) {
    return peak > 0 ? json(tokens_per_s * flops / (peak * 1e12)) : json(nullptr);
  };
  return {{"tokens_per_s", tokens_per_s},
          {"trained_s", site.record->trained_s},
          {"peak_tflops", peak > 0 ? json(peak) : json(nullptr)},
          {"mfu_nanochat", mfu(spec.flops_per_token_nanochat())},
          {"mfu_causal", mfu(spec.flops_per_token_causal())}};
}

// The hours between the run's ends in which no job ran: nodes that idle then are no part of the metered energy.
json describe_declared(const SiteFiles& site, const Window& span, const json& jobs) {
  if (!site.config) return nullptr;
  const SiteConfig& config = site.config->site;
  double job_s = 0, free_from = span.open_unix_s;
  EnergyLedger idle;
  const Grid grid{site.marginal(), site.average ? &*site.average : nullptr, &site.windows};
  const auto idles = [&](double from, double to) {
    EnergyFlow flow;
    flow.phase = Phase::idle;
    flow.from_unix_s = from;
    flow.to_unix_s = to;
    flow.power_w[static_cast<std::size_t>(Component::node)] = config.idle_power_w;
    flow.power_w[static_cast<std::size_t>(Component::facility)] = config.idle_power_w * (config.pue - 1);
    flow.declared = true;
    idle.add(flow, grid);
  };
  for (const json& job : jobs) {
    const double from = job.at("from_unix_s"), to = job.at("to_unix_s");
    job_s += to - from;
    if (config.idle_outside && from > free_from) idles(free_from, from);
    free_from = std::max(free_from, to);
  }
  if (config.idle_outside && span.close_unix_s > free_from) idles(free_from, span.close_unix_s);
  return {{"idle_outside", config.idle_outside},
          {"idle_kwh", idle.energy_kwh()},
          {"idle_g", idle.emissions_g()},
          {"embodied_g", config.embodied_g_per_h * job_s / 3600},
          {"job_h", job_s / 3600}};
}

// The cap that was in force and the mean power under it, from the first step of each job to its end; null without a cap.
json describe_cap(const SiteFiles& site) {
  if (!site.config || !site.config->site.power_capped()) return nullptr;
  std::optional<double> low, high;
  double capped_s = 0, joules = 0;
  for (std::size_t i = 1; i < site.log.size(); ++i) {
    const TelemetryLine &before = site.log[i - 1], &line = site.log[i];
    if (line.power_cap_w) {
      low = std::min(low.value_or(*line.power_cap_w), *line.power_cap_w);
      high = std::max(high.value_or(*line.power_cap_w), *line.power_cap_w);
    }
    const bool trains = line.phase == Phase::solo || line.phase == Phase::federated;
    if (line.event == "start" || !trains) continue;
    capped_s += line.unix_s - before.unix_s;
    joules += static_cast<double>(line.energy.since(before.energy).total_mj()) * 1e-3;
  }
  return {
      {"setting", site.config->site.power_cap_excess ? json("excess") : json(*site.config->site.power_cap_w)},
      {"lowest_w", low ? json(*low) : json(nullptr)},
      {"highest_w", high ? json(*high) : json(nullptr)},
      {"mean_power_w", capped_s > 0 ? json(joules / capped_s) : json(nullptr)}};
}

json describe_provenance(const SiteFiles& site) {
  if (!site.checkpoint) return nullptr;
  const Attributes root = site.checkpoint->attributes("/");
  const auto text = [&](const char* name) {
    const auto found = root.find(name);
    return found == root.end() ? std::string() : std::get<std::string>(found->second);
  };
  json parents = json::array();
  if (site.record)
    for (const LineageRow& row : site.record->lineage) parents.push_back(row.parent_digest);
  return {{"checkpoint", site.checkpoint->file().string()},
          {"digest", site.checkpoint->digest()},
          {"run", text("run")},
          {"parents", parents},
          {"config", read_config_text(*site.checkpoint)}};
}

}  // namespace

EnergyLedger SiteFiles::energy() const {
  return !log.empty() && log.back().energy.total_mj() >= checkpoint_energy.total_mj() ? log.back().energy
                                                                                      : checkpoint_energy;
}

double SiteFiles::kwh_at(double unix_s) const {
  return at_instant(*this, unix_s, [](const EnergyLedger& energy) { return energy.energy_kwh(); });
}

double SiteFiles::grams_at(double unix_s) const {
  return at_instant(*this, unix_s, [](const EnergyLedger& energy) { return energy.emissions_g(); });
}

std::optional<Window> SiteFiles::span() const {
  if (!log.empty()) return Window{log.front().unix_s, log.back().unix_s};
  if (!record || record->lineage.empty()) return std::nullopt;
  return Window{record->lineage.front().started_unix_s, record->lineage.back().ended_unix_s};
}

SiteFiles read_site_files(const std::filesystem::path& folder, const ReportOptions& options) {
  SiteFiles site;
  site.name = folder.filename().string();
  read_checkpoint(folder, site, options);
  try {
    site.log = TelemetryLog::read(folder / TelemetryLog::kFileName);
  } catch (const Error& error) {
    site.notes.push_back(error.what());
  }
  if (!site.config) return site;
  read_signals(site);
  return site;
}

json describe_site(const SiteFiles& site, const Window& span, const ReportOptions& options) {
  const EnergyLedger energy = site.energy();
  const json jobs = describe_jobs(site, options);
  json document = {{"name", site.name},
                   {"jobs", jobs},
                   {"activity", describe_activity(site)},
                   {"signal", describe_signal(site, span)},
                   {"energy", describe_energy(energy)},
                   {"energy_after_checkpoint_mj", energy.total_mj() - site.checkpoint_energy.total_mj()},
                   {"energy_source", site.energy_source.empty() ? json(nullptr) : json(site.energy_source)},
                   {"declared", describe_declared(site, span, jobs)},
                   {"series", describe_series(site)},
                   {"speed", describe_speed(site)},
                   {"power_cap", describe_cap(site)},
                   {"provenance", describe_provenance(site)},
                   {"pue", nullptr},
                   {"train_power_w", nullptr},
                   {"tokens", nullptr}};
  if (site.config) {
    document["pue"] = site.config->site.pue;
    document["train_power_w"] = site.config->site.train_power_w;
    document["idle_power_w"] = site.config->site.idle_power_w;
  }
  if (!site.log.empty()) document["tokens"] = site.log.back().tokens;
  if (site.record) {
    if (site.log.empty()) document["tokens"] = site.record->tokens;
    document["suspends"] = site.record->suspends;
    document["skipped_steps"] = site.record->skipped;
    document["rounds_solo"] = site.record->rounds_solo;
    document["rounds_federated"] = site.record->rounds_federated;
    json losses = json::array();
    for (const StepRow& row : site.record->steps) losses.push_back({row.step, number_or_null(row.loss_nats)});
    document["losses"] = losses;
  }
  return document;
}

}  // namespace spillway
