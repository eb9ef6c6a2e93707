#include "cli/hub_reports.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <iostream>

#include "cli/json_text.hpp"
#include "cli/options.hpp"
#include "comm/observer.hpp"
#include "core/error.hpp"
#include "core/time.hpp"
#include "data/ledger.hpp"
#include "train/audit.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

constexpr double kPatience_s = 5;

void print_status(const nlohmann::json& status) {
  const auto blocks = status.at("blocks").get<std::int64_t>(),
             target = status.at("target").get<std::int64_t>();
  std::cout << fmt::format(
      "{}  model version {}, {} of {} steps merged ({:.0f} %), {} free; rounds: {} solo, {} federated\n",
      format_utc(status.at("clock_unix_s").get<double>()), status.at("version").get<std::int64_t>(), blocks,
      target, 100.0 * static_cast<double>(blocks) / static_cast<double>(target),
      status.at("free_blocks").get<std::int64_t>(), status.at("rounds").at("solo").get<std::int64_t>(),
      status.at("rounds").at("federated").get<std::int64_t>());
  const auto& epoch = status.at("epoch");
  if (epoch.is_null())
    std::cout << "no epoch\n";
  else
    std::cout << fmt::format("epoch {} {} for {:.0f} s: {}\n", epoch.at("id").get<std::int64_t>(),
                             epoch.at("state").get<std::string>(), epoch.at("state_age_s").get<double>(),
                             fmt::join(epoch.at("members").get<std::vector<std::string>>(), ", "));
  std::cout << fmt::format("\n{:<20}  {:<8}  {:<11}  {:>7}  {:>6}  {:>8}  {:>8}  {:>9}\n", "member", "window",
                           "state", "version", "leased", "step", "loss", "tokens/s");
  for (const auto& [name, member] : status.at("members").items()) {
    const auto& progress = member.at("progress");
    const auto field = [&](const char* key) {
      return progress.is_object() ? progress.value(key, nlohmann::json()) : nlohmann::json();
    };
    std::cout << fmt::format("{:<20}  {:<8}  {:<11}  {:>7}  {:>6}  {:>8}  {:>8}  {:>9}\n", name,
                             member.at("open").get<bool>() ? "open" : "closed",
                             member.at("silent").get<bool>() ? "stopped" : text_of(field("state")),
                             member.at("version").get<std::int64_t>(),
                             member.at("leased_blocks").get<std::int64_t>(), cell(field("step"), "{:.0f}"),
                             cell(field("loss_nats"), "{:.4f}"), cell(field("tokens_per_s"), "{:.0f}"));
  }
}

std::filesystem::path journal_file(const std::filesystem::path& where) {
  if (!std::filesystem::is_directory(where)) return where;
  const auto below_run = where / "hub" / "journal.jsonl";
  return std::filesystem::exists(below_run) ? below_run : where / "journal.jsonl";
}

nlohmann::json to_json(const AuditReport& report) {
  return {{"sound", report.violations.empty()},
          {"violations", report.violations},
          {"starts", report.starts},
          {"rounds", report.rounds},
          {"version", report.committed.version},
          {"hash", report.committed.hash},
          {"blocks", {{"of_run", report.steps}, {"merged_once", report.merged_blocks}}},
          {"missing", report.missing},
          {"blocks_of_site", report.blocks_of_site}};
}

void print_report(const std::filesystem::path& file, const AuditReport& report) {
  std::cout << fmt::format("{}: {} rounds, {} starts of the hub, model version {}\n", file.string(),
                           report.rounds, report.starts, report.committed.version);
  for (const auto& [site, blocks] : report.blocks_of_site)
    std::cout << fmt::format("  {:<20} {:>9} blocks\n", site, blocks);
  for (const auto& violation : report.violations) std::cout << "VIOLATION: " << violation << "\n";
  if (!report.violations.empty()) return;
  std::cout << fmt::format("sound: {} of {} blocks are merged, each exactly once\n", report.merged_blocks,
                           report.steps);
  if (!report.complete()) std::cout << "not merged yet: " << to_string(RangeSet(report.missing)) << "\n";
}

}  // namespace

int run_hub_status(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "hub status";
  spec.summary = "What the hub and the members of its federation are doing.";
  spec.usage = "spillway hub status --config FILE.ini [--json]";
  bool json = false;
  spec.options.add_options()("json", po::bool_switch(&json), "the hub's whole status as JSON");
  spec.aliases = {{"hub", "federation.hub"}};
  spec.sections = {"federation"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (config->federation.hub.empty())
    fail(ExitCode::usage, "federation.hub is not set: give the hub's HOST:PORT");
  Observer observer(parse_endpoint("--federation.hub", config->federation.hub), "status",
                    read_key(config->federation.key_file));
  if (!observer.wait(kPatience_s)) {
    const std::string problem = observer.problem();
    fail(ExitCode::io, "no hub answers at {}: {}", config->federation.hub,
         problem.empty() ? "connected, but it says nothing" : problem);
  }
  if (json)
    std::cout << observer.status().dump(2) << "\n";
  else
    print_status(observer.status());
  return 0;
}

int print_audit(const std::string& where, bool json) {
  const auto file = journal_file(where);
  const AuditReport report = audit_journal(file);
  if (json)
    std::cout << to_json(report).dump(2) << "\n";
  else
    print_report(file, report);
  return static_cast<int>(report.violations.empty() ? ExitCode::complete : ExitCode::bad_data);
}

}  // namespace spillway::cli
