#include "train/run_history.hpp"

#include "core/error.hpp"
#include "train/delta_watch.hpp"

namespace spillway {

nlohmann::json to_json(const StartEntry& entry) {
  return {{"type", "start"},
          {"run", entry.run},
          {"steps", entry.steps},
          {"tokens_per_step", entry.tokens_per_step},
          {"clock",
           {{"start_unix_s", entry.clock.start_unix_s},
            {"origin_unix_s", entry.clock.origin_unix_s},
            {"speed", entry.clock.speed}}}};
}

nlohmann::json to_json(const CommitEntry& entry) {
  nlohmann::json sites = nlohmann::json::object();
  for (const auto& [site, work] : entry.sites)
    sites[site] = {{"tokens", work.tokens},
                   {"blocks", work.blocks},
                   {"delta_norm", work.delta_norm},
                   {"energy", work.energy}};
  nlohmann::json timing = nullptr;
  if (entry.timing)
    timing = {{"train_s", entry.timing->train_s},
              {"wait_s", entry.timing->wait_s},
              {"exchange_s", entry.timing->exchange_s}};
  return {{"type", "commit"},
          {"epoch", entry.epoch},
          {"round", entry.round},
          {"version", entry.model.version},
          {"blocks", entry.model.blocks},
          {"hash", entry.model.hash},
          {"merge", entry.merge},
          {"sites", sites},
          {"clock_unix_s", entry.clock_unix_s},
          {"data", entry.data},
          {"timing", timing},
          {"wire", entry.wire},
          {"members", entry.members}};
}

std::string type_of_entry(const nlohmann::json& entry) {
  const auto type = entry.is_object() ? entry.value("type", nlohmann::json()) : nlohmann::json();
  if (type != "start" && type != "commit")
    fail(ExitCode::bad_data, "journal entry {}: its type is neither start nor commit",
         entry.dump().substr(0, 200));
  return type;
}

StartEntry start_entry(const nlohmann::json& entry) {
  try {
    const auto& clock = entry.at("clock");
    return {entry.at("run"),
            entry.at("steps"),
            entry.at("tokens_per_step"),
            {clock.at("start_unix_s"), clock.at("origin_unix_s"), clock.at("speed")}};
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "journal entry {}: {}", entry.dump().substr(0, 200), error.what());
  }
}

CommitEntry commit_entry(const nlohmann::json& entry) {
  try {
    CommitEntry commit;
    commit.epoch = entry.at("epoch");
    commit.round = entry.at("round");
    commit.model = {entry.at("version"), entry.at("blocks"), entry.at("hash")};
    commit.merge = entry.at("merge");
    commit.clock_unix_s = entry.at("clock_unix_s");
    // Journals of before have neither norms, nor data, nor timing, nor energy, nor wire.
    commit.data = entry.value("data", "");
    commit.wire = entry.value("wire", "");
    commit.members = entry.value("members", std::int64_t{0});
    if (const auto timing = entry.value("timing", nlohmann::json(nullptr)); !timing.is_null())
      commit.timing = CommitEntry::Timing{timing.at("train_s"), timing.at("wait_s"), timing.at("exchange_s")};
    for (const auto& [site, work] : entry.at("sites").items())
      commit.sites[site] = {work.at("tokens"), RangeSet(work.at("blocks").get<BlockRanges>()).ranges(),
                            work.value("delta_norm", 0.0), work.value("energy", nlohmann::json(nullptr))};
    return commit;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "journal entry {}: {}", entry.dump().substr(0, 200), error.what());
  }
}

void RunHistory::apply(const nlohmann::json& entry) {
  if (type_of_entry(entry) == "start") {
    const StartEntry start = start_entry(entry);
    if (first_start && start.run != first_start->run)
      fail(ExitCode::bad_data, "the journal belongs to two runs: {} and {}", first_start->run, start.run);
    if (start.steps != ledger.total())
      fail(ExitCode::bad_data, "the journal is of a run of {} steps, not of {}", start.steps, ledger.total());
    if (!first_start) first_start = start;
    ++starts;
    return;
  }
  const CommitEntry next = commit_entry(entry);
  if (next.model.version != committed.version + 1)
    fail(ExitCode::bad_data, "the journal has version {} after version {}", next.model.version,
         committed.version);
  for (const auto& [site, work] : next.sites)
    if (const RangeSet blocks(work.blocks); !ledger.adopt(site, blocks))
      fail(ExitCode::bad_data, "version {} of the journal: blocks {} of {} are counted twice or do not exist",
           next.model.version, to_string(blocks), site);
  commit(next);
}

void RunHistory::commit(const CommitEntry& entry) {
  for (const auto& [site, work] : entry.sites) ledger.commit(site, RangeSet(work.blocks));
  if (ledger.committed() != entry.model.blocks)
    fail(ExitCode::bad_data, "version {} claims {} blocks, the journal adds up to {}", entry.model.version,
         entry.model.blocks, ledger.committed());
  committed = entry.model;
  rounds.emplace(entry.epoch, entry.round);
  last_merge = entry.merge;
  ++(entry.merge == "adopt" ? rounds_solo : rounds_federated);
  if (!entry.data.empty()) data = entry.data;
  last_sites.clear();
  for (const auto& [site, work] : entry.sites) last_sites.insert(site);
  for (const auto& [site, work] : entry.sites)
    if (work.delta_norm > 0) step_norms.push_back(step_norm(work.delta_norm, RangeSet(work.blocks).count()));
  while (step_norms.size() > kNormsKept) step_norms.pop_front();
}

}  // namespace spillway
