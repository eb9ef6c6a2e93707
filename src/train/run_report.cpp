#include "train/run_report.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "comm/wire.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/baselines.hpp"
#include "io/checkpoint_folder.hpp"
#include "model/layout.hpp"
#include "train/journal.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/run_history.hpp"
#include "train/site_report.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

using nlohmann::json;

struct JournalPart {
  std::optional<StartEntry> start;
  std::vector<CommitEntry> commits;
};

JournalPart read_journal(const std::filesystem::path& folder) {
  JournalPart part;
  const auto file = folder / "hub" / "journal.jsonl";
  if (!std::filesystem::exists(file)) return part;
  for (const json& entry : Journal::read(file)) {
    if (type_of_entry(entry) == "start") {
      if (!part.start) part.start = start_entry(entry);
      continue;
    }
    part.commits.push_back(commit_entry(entry));
  }
  return part;
}

// Folders of sites: they hold checkpoints of training or an energy log.
std::vector<std::filesystem::path> site_folders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || name == "vault" || name == "hub" || name == "logs" || name == "data")
      continue;
    if (newest_checkpoint(entry.path()) || std::filesystem::exists(entry.path() / TelemetryLog::kFileName))
      folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

// What each site drew for each round: the difference of its ledgers at the ends of its rounds.
json describe_rounds(const JournalPart& journal) {
  json rounds = json::array();
  std::map<std::string, EnergyLedger> before;
  for (const CommitEntry& commit : journal.commits) {
    json sites = json::object();
    std::int64_t tokens = 0;
    for (const auto& [name, work] : commit.sites) {
      json energy = nullptr;
      if (work.energy.is_object()) {
        const EnergyLedger ledger =
            EnergyLedger::from_map(work.energy.get<std::map<std::string, std::int64_t>>());
        const EnergyLedger used = ledger.since(before[name]);
        before[name] = ledger;
        energy = {{"energy_mj", used.total_mj()},      {"energy_kwh", used.energy_kwh()},
                  {"inside_mj", used.inside_mj()},     {"emissions_ug", used.emissions_ug(Account::marginal)},
                  {"emissions_g", used.emissions_g()}, {"average_g", used.emissions_g(Account::average)}};
      }
      sites[name] = {{"tokens", work.tokens}, {"energy", energy}};
      tokens += work.tokens;
    }
    rounds.push_back({{"version", commit.model.version},
                      {"blocks", commit.model.blocks},
                      {"hash", commit.model.hash},
                      {"merge", commit.merge},
                      {"unix_s", commit.clock_unix_s},
                      {"tokens", tokens},
                      {"sites", sites},
                      {"timing", to_json(commit).at("timing")}});
  }
  return rounds;
}

// Losses and validations over what the whole run had spent by then.
json describe_curves(const std::vector<SiteFiles>& sites, double start_unix_s, double tokens_per_step) {
  json curves = {{"loss", json::object()}, {"validation", json::object()}};
  for (const SiteFiles& site : sites)
    for (const TelemetryLine& line : site.log) {
      if (!line.loss_nats) continue;
      double kwh = 0, grams = 0;
      for (const SiteFiles& other : sites) {
        kwh += other.kwh_at(line.unix_s);
        grams += other.grams_at(line.unix_s);
      }
      const bool validation = line.event == "validation";
      const json value = !validation          ? json(*line.loss_nats)
                         : line.bits_per_byte ? json(*line.bits_per_byte)
                                              : json(nullptr);
      curves[validation ? "validation" : "loss"][site.name].push_back(
          {{"tokens", static_cast<double>(line.step) * tokens_per_step},
           {"hours", (line.unix_s - start_unix_s) / 3600},
           {"kwh", kwh},
           {"g", grams},
           {"value", value},
           {"loss_nats", *line.loss_nats}});
    }
  return curves;
}

json describe_baselines(const std::vector<SiteFiles>& sites, const EnergyLedger& total, double start_unix_s) {
  json always = json::object(), wait = json::object();
  const double emissions_g = total.emissions_g();
  const auto entry = [&](std::optional<double> grams, std::optional<double> end_unix_s) {
    return json{{"emissions_g", grams ? json(*grams) : json(nullptr)},
                {"ratio", grams && *grams > 0 ? json(emissions_g / *grams) : json(nullptr)},
                {"hours", end_unix_s ? json((*end_unix_s - start_unix_s) / 3600) : json(nullptr)}};
  };
  for (const SiteFiles& site : sites) {
    if (!site.config || site.marginal() == nullptr) continue;
    const double power_w = site.config->site.train_power_w * site.config->site.pue;
    const auto on = always_on_emissions_g(*site.marginal(), start_unix_s, total.energy_kwh(), power_w);
    always[site.name] = entry(
        on, power_w > 0 ? std::optional(start_unix_s + total.energy_kwh() * 3.6e6 / power_w) : std::nullopt);
    const auto lone = wait_awhile(*site.marginal(), site.windows, start_unix_s, total.energy_kwh(), power_w);
    wait[site.name] = entry(lone ? std::optional(lone->emissions_g) : std::nullopt,
                            lone ? std::optional(lone->end_unix_s) : std::nullopt);
  }
  return {{"always_on", always}, {"wait_awhile", wait}};
}

json list_assumptions(const std::vector<SiteFiles>& sites, const JournalPart& journal) {
  json list = json::array();
  list.push_back(
      "A carbon intensity holds from its stamp until the next one; energy under an unknown intensity is "
      "listed apart "
      "and is in no emissions.");
  for (const SiteFiles& site : sites) {
    if (!site.config) continue;
    const SiteConfig& config = site.config->site;
    if (site.energy_source == "modelled")
      list.push_back(fmt::format(
          "{}: its energy is modelled, not measured: {} W while a job runs ({} W while it waits for "
          "the hub), PUE {}.",
          site.name, config.train_power_w, config.idle_power_w, config.pue));
    else if (!site.energy_source.empty())
      list.push_back(fmt::format(
          "{}: measured by {}; {}; PUE {} is added as modelled energy.", site.name, site.energy_source,
          config.host_share
              ? fmt::format("{} of a node's power is taken to be unseen by the counters", *config.host_share)
              : std::string("what the counters do not see (fans, disks, power supplies) is not counted"),
          config.pue));
    if (config.power_capped())
      list.push_back(fmt::format(
          "{}: its power is capped at {}; pauses for that are in the line \"idle\" of its energy.", site.name,
          config.power_cap_excess ? std::string("the excess power")
                                  : fmt::format("{:.0f} W at its meter", *config.power_cap_w)));
    if (config.idle_outside)
      list.push_back(fmt::format(
          "{}: between its jobs its nodes idle at {} W (a declared line, not in the energy used).", site.name,
          config.idle_power_w));
    else
      list.push_back(fmt::format(
          "{}: between its jobs its nodes are off or used by others, and draw nothing for this run.",
          site.name));
    if (config.embodied_g_per_h > 0)
      list.push_back(fmt::format("{}: embodied emissions of {} g per hour of a job, as declared.", site.name,
                                 config.embodied_g_per_h));
    if (site.config->clock.mode == "replay")
      list.push_back(
          fmt::format("{}: a recorded signal replayed {} times faster than real time from {}; energies are "
                      "those of the replayed time.",
                      site.name, site.config->clock.speed, site.config->clock.start));
  }
  list.push_back(
      "Always on: one site from the run's start without pause, at its declared training power (PUE "
      "included), until "
      "it has used as much energy as the whole run.");
  list.push_back(
      "Wait-awhile: the same, but only inside that site's windows by the same gate, and off between them.");
  if (!journal.commits.empty())
    list.push_back(
        "Losses are drawn over the global step, that is the merged blocks plus a site's own since.");
  return list;
}

std::string state_of(const std::vector<SiteFiles>& sites, const JournalPart& journal, std::int64_t target,
                     std::int64_t merged) {
  if (target > 0 && merged >= target) return "complete";
  // A job that has written no last line is running, or was killed.
  const bool open = std::any_of(sites.begin(), sites.end(), [](const SiteFiles& site) {
    return !site.log.empty() && site.log.back().event != "end";
  });
  return open ? "running" : journal.commits.empty() && merged == 0 ? "started" : "suspended";
}

// What a merge sent, all members together: a broadcast the model once to each other member, a ring about twice (n − 1)/n of
// it from each of n, in the round's format, with the optimizer's state where that is merged. Not counted: the bringing up to date of members that were away, and messages.
double merge_bytes(const CommitEntry& commit, std::int64_t parameters, std::int64_t merged_state) {
  const bool adopt = commit.merge == "adopt";
  // Older journals do not say: a vault beside the sites, full precision.
  const double members = static_cast<double>(
      commit.members > 0 ? commit.members : static_cast<std::int64_t>(commit.sites.size()) + 1);
  const WireFormat format = parse_wire_format(commit.wire.empty() || adopt ? "fp32" : commit.wire);
  std::int64_t bytes = wire_bytes(format, parameters);
  if (!adopt) bytes += wire_bytes(optimizer_state_format(format), merged_state);
  return (adopt ? 1 : 2) * (members - 1) * static_cast<double>(bytes);
}

json describe_network(const std::vector<SiteFiles>& sites, const JournalPart& journal,
                      std::int64_t parameters, std::int64_t merged_state) {
  double bytes = 0;
  for (const CommitEntry& commit : journal.commits) bytes += merge_bytes(commit, parameters, merged_state);
  double kwh_per_gb = 0;
  for (const SiteFiles& site : sites)
    if (site.config) kwh_per_gb = std::max(kwh_per_gb, site.config->site.network_kwh_per_gb);
  return {{"bytes", bytes}, {"kwh_per_gb", kwh_per_gb}, {"kwh", bytes / 1e9 * kwh_per_gb}};
}

}  // namespace

json describe_energy(const EnergyLedger& energy) {
  json phases = json::object(), components = json::object(), accounts = json::object();
  for (std::size_t i = 0; i < kPhases; ++i) {
    const auto phase = static_cast<Phase>(i);
    phases[kPhaseNames[i]] = {{"energy_mj", energy.phase_mj(phase)},
                              {"energy_kwh", energy.phase_kwh(phase)},
                              {"emissions_g", EnergyLedger::grams(energy.phase_ug(phase, Account::marginal))},
                              {"average_g", EnergyLedger::grams(energy.phase_ug(phase, Account::average))}};
  }
  for (std::size_t i = 0; i < kComponents; ++i) {
    const std::int64_t part = energy.component_mj(static_cast<Component>(i));
    components[kComponentNames[i]] = {{"energy_mj", part}, {"energy_kwh", EnergyLedger::kwh(part)}};
  }
  for (std::size_t i = 0; i < kAccounts; ++i) {
    const auto account = static_cast<Account>(i);
    accounts[kAccountNames[i]] = {{"emissions_ug", energy.emissions_ug(account)},
                                  {"emissions_g", energy.emissions_g(account)},
                                  {"inside_g", energy.inside_g(account)},
                                  {"outside_g", energy.outside_g(account)},
                                  {"unknown_kwh", energy.unknown_kwh(account)}};
  }
  return {{"energy_mj", energy.total_mj()},
          {"energy_kwh", energy.energy_kwh()},
          {"inside_kwh", energy.inside_kwh()},
          {"outside_kwh", energy.outside_kwh()},
          {"measured_kwh", EnergyLedger::kwh(energy.measured_mj())},
          {"modelled_kwh", EnergyLedger::kwh(energy.total_mj() - energy.measured_mj())},
          {"unmetered_s", energy.unmetered_s()},
          {"phases", phases},
          {"components", components},
          {"accounts", accounts}};
}

json report_run(const std::filesystem::path& folder, const ReportOptions& options) {
  const JournalPart journal = read_journal(folder);
  std::vector<SiteFiles> sites;
  for (const auto& site : site_folders(folder)) sites.push_back(read_site_files(site, options));
  if (sites.empty() && !journal.start)
    fail(ExitCode::bad_data, "{}: this is no run: it has neither a hub's journal nor a site's checkpoints",
         folder.string());
  json notes = json::array();
  std::optional<Window> span;
  EnergyLedger total;
  std::int64_t tokens = 0, single_step = 0;
  const SiteFiles* with_checkpoint = nullptr;
  for (const SiteFiles& site : sites) {
    for (const std::string& note : site.notes) notes.push_back(note);
    total += site.energy();
    if (const auto own = site.span()) {
      span = span ? Window{std::min(span->open_unix_s, own->open_unix_s),
                           std::max(span->close_unix_s, own->close_unix_s)}
                  : *own;
    }
    if (site.checkpoint && with_checkpoint == nullptr) with_checkpoint = &site;
    if (!site.log.empty()) single_step = std::max(single_step, site.log.back().step);
    tokens += !site.log.empty() ? site.log.back().tokens : site.record ? site.record->tokens : 0;
  }
  for (const CommitEntry& commit : journal.commits)
    for (const auto& [name, work] : commit.sites)
      if (std::none_of(sites.begin(), sites.end(), [&](const SiteFiles& s) { return s.name == name; }) &&
          std::find(notes.begin(), notes.end(), name + ": its folder is not here") == notes.end())
        notes.push_back(name + ": its folder is not here");
  double start_unix_s = span ? span->open_unix_s : 0;
  if (journal.start)
    start_unix_s = std::min(journal.start->clock.start_unix_s, span ? span->open_unix_s : 1e300);
  const Window run_span{start_unix_s,
                        span ? std::max(span->close_unix_s, start_unix_s + 1) : start_unix_s + 1};

  std::int64_t target = 0, tokens_per_step = 0, parameters = 0, merged_state = 0;
  json model = nullptr;
  if (journal.start) {
    target = journal.start->steps;
    tokens_per_step = journal.start->tokens_per_step;
  }
  if (with_checkpoint != nullptr) {
    const GptSpec spec = read_sizes(*with_checkpoint->checkpoint);
    parameters = spec.parameters();
    model = {{"layers", spec.layers},
             {"width", spec.width},
             {"heads", spec.heads},
             {"vocab", spec.vocab},
             {"sequence", spec.sequence},
             {"parameters", parameters},
             {"flops_per_token_nanochat", spec.flops_per_token_nanochat()}};
    if (with_checkpoint->config) {
      target = with_checkpoint->config->train.steps;
      tokens_per_step = with_checkpoint->config->train.tokens_per_step;
      merged_state = merged_state_count(with_checkpoint->config->federation, make_layout(spec));
    }
  }
  const std::int64_t merged = journal.commits.empty() ? single_step : journal.commits.back().model.blocks;
  json document = {{"format", "spillway-report"}, {"version", 1}};
  document["state"] = state_of(sites, journal, target, merged);
  document["made_unix_s"] = std::floor(system_unix_s());
  document["run"] = {{"folder", folder.string()},
                     {"from_unix_s", run_span.open_unix_s},
                     {"to_unix_s", run_span.close_unix_s},
                     {"steps", {{"merged", merged}, {"target", target}}},
                     {"tokens", tokens},
                     {"tokens_per_step", tokens_per_step},
                     {"model", model}};
  document["sites"] = json::array();
  for (const SiteFiles& site : sites) document["sites"].push_back(describe_site(site, run_span, options));
  document["rounds"] = describe_rounds(journal);
  document["curves"] = describe_curves(sites, run_span.open_unix_s, static_cast<double>(tokens_per_step));
  document["energy"] = describe_energy(total);
  document["network"] = describe_network(sites, journal, parameters, merged_state);
  document["baselines"] = describe_baselines(sites, total, run_span.open_unix_s);
  document["assumptions"] = list_assumptions(sites, journal);
  document["notes"] = notes;
  return document;
}

std::map<std::string, double> read_batch_energy(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) fail(ExitCode::io, "{}: cannot be read", file.string());
  std::map<std::string, double> joules;
  std::size_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    const auto bar = line.find('|');
    if (line.empty() || line.starts_with("JobID")) continue;
    if (bar == std::string::npos)
      fail(ExitCode::bad_data, "{}: line {}: expected JobIDRaw|ConsumedEnergyRaw, as sacct -P prints it",
           file.string(), number);
    const std::string job = line.substr(0, bar),
                      text = line.substr(bar + 1, line.find('|', bar + 1) - bar - 1);
    if (text.empty() || job.find('.') != std::string::npos) continue;
    double value = 0;
    std::istringstream parse(text);
    if (!(parse >> value) || !parse.eof() || value < 0)
      fail(ExitCode::bad_data, "{}: line {}: '{}' is no energy in joules", file.string(), number, text);
    joules[job] = value;
  }
  return joules;
}

}  // namespace spillway
