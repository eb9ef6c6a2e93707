#include "train/audit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.hpp"
#include "train/journal.hpp"
#include "train/run_history.hpp"

namespace spillway {
namespace {

// A journal that claims more is not one.
constexpr std::int64_t kMostSteps = 100'000'000;
constexpr std::size_t kMostViolations = 100;  // further ones add nothing

class Auditor {
 public:
  void start(const StartEntry& entry) {
    if (report_.starts++ == 0) {
      if (entry.steps <= 0 || entry.steps > kMostSteps || entry.tokens_per_step <= 0)
        fail(ExitCode::bad_data, "the journal's first line claims {} steps of {} tokens", entry.steps,
             entry.tokens_per_step);
      first_ = entry;
      report_.steps = entry.steps;
      version_of_block_.resize(static_cast<std::size_t>(entry.steps), 0);
      return;
    }
    if (entry.run != first_.run || entry.steps != first_.steps ||
        entry.tokens_per_step != first_.tokens_per_step)
      violation("start {} is of another run than the first", report_.starts);
    if (entry.clock.start_unix_s != first_.clock.start_unix_s ||
        entry.clock.origin_unix_s != first_.clock.origin_unix_s || entry.clock.speed != first_.clock.speed)
      violation("start {} has another clock than the first", report_.starts);
  }

  void commit(const CommitEntry& entry) {
    if (report_.starts == 0) fail(ExitCode::bad_data, "the journal does not begin with a start");
    ++report_.rounds;
    const std::int64_t version = entry.model.version;
    if (version != report_.committed.version + 1)
      violation("version {} follows version {}", version, report_.committed.version);
    if (!rounds_.emplace(entry.epoch, entry.round).second)
      violation("version {}: round {} of epoch {} was committed before", version, entry.round, entry.epoch);
    if (entry.model.hash.empty()) violation("version {} has no hash", version);
    if (entry.sites.empty()) violation("version {} merges nobody's work", version);
    for (const auto& [site, work] : entry.sites) count(version, site, work);
    if (entry.model.blocks != report_.merged_blocks)
      violation("version {} claims {} blocks in all, counted are {}", version, entry.model.blocks,
                report_.merged_blocks);
    report_.committed = entry.model;
  }

  AuditReport finish() {
    if (report_.starts == 0) fail(ExitCode::bad_data, "the journal is empty");
    for (std::int64_t block = 0; block < report_.steps; ++block) {
      if (version_of_block_[static_cast<std::size_t>(block)] != 0) continue;
      if (!report_.missing.empty() && report_.missing.back().second == block)
        ++report_.missing.back().second;
      else
        report_.missing.emplace_back(block, block + 1);
    }
    return std::move(report_);
  }

 private:
  template <class... Args>
  void violation(fmt::format_string<Args...> format, Args&&... args) {
    if (report_.violations.size() < kMostViolations)
      report_.violations.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  void count(std::int64_t version, const std::string& site, const CommitEntry::Work& work) {
    std::int64_t blocks = 0;
    for (const auto& [first, end] : work.blocks) {
      blocks += end - first;
      if (end > report_.steps)
        violation("version {}: {} counts blocks up to {}, the run has {}", version, site, end, report_.steps);
      for (std::int64_t block = first; block < std::min(end, report_.steps); ++block) {
        std::int64_t& earlier = version_of_block_[static_cast<std::size_t>(block)];
        if (earlier != 0)
          violation("block {} is counted in version {} and again by {} in version {}", block, earlier, site,
                    version);
        else
          ++report_.merged_blocks;
        earlier = version;
      }
    }
    if (work.tokens != blocks * first_.tokens_per_step)
      violation("version {}: {} tokens of {} do not match its {} blocks of {}", version, work.tokens, site,
                blocks, first_.tokens_per_step);
    report_.blocks_of_site[site] += blocks;
  }

  AuditReport report_;
  StartEntry first_;
  std::set<std::pair<std::int64_t, std::int64_t>> rounds_;
  std::vector<std::int64_t> version_of_block_;  // 0: in none
};

}  // namespace

AuditReport audit_entries(const std::vector<nlohmann::json>& entries) {
  Auditor auditor;
  for (const auto& entry : entries) {
    if (type_of_entry(entry) == "start")
      auditor.start(start_entry(entry));
    else
      auditor.commit(commit_entry(entry));
  }
  return auditor.finish();
}

AuditReport audit_journal(const std::filesystem::path& file) { return audit_entries(Journal::read(file)); }

}  // namespace spillway
