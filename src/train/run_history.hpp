// What the hub's journal says: its entries, and the state of the run they add up to.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "comm/protocol.hpp"
#include "core/clock.hpp"
#include "data/ledger.hpp"

namespace spillway {

// A start of the hub. The first one of a journal fixes the clock of the run.
struct StartEntry {
  std::string run;  // run_digest() of the configuration
  std::int64_t steps = 0;
  std::int64_t tokens_per_step = 0;
  ClockSpec clock;
};

// A committed round.
struct CommitEntry {
  struct Work {
    std::int64_t tokens = 0;
    BlockRanges blocks;
    double delta_norm = 0;       // Euclidean norm of its Δ
    nlohmann::json energy = {};  // the site's energy ledger at the round's end; null: not told
  };
  std::int64_t epoch = 0, round = 0;
  CommittedModel model;
  std::string merge;                  // Go.merge
  std::map<std::string, Work> sites;  // those that had trained
  double clock_unix_s = 0;            // simulated
  std::string data = {};              // digest of the tokens all sites train on; empty: not known
  // Real seconds: training, until the last member was ready, and the exchange with what surrounds it.
  struct Timing {
    double train_s = 0, wait_s = 0, exchange_s = 0;
  };
  std::optional<Timing> timing = {};  // journals of older versions have none
  std::string wire = {};     // how values travelled (comm/wire.hpp); empty in journals of older versions
  std::int64_t members = 0;  // of the exchange, the vault included
};

nlohmann::json to_json(const StartEntry& entry);   // {"type": "start", …}
nlohmann::json to_json(const CommitEntry& entry);  // {"type": "commit", …}
// "start" or "commit". These three throw Error(bad_data) naming what is wrong.
std::string type_of_entry(const nlohmann::json& entry);
StartEntry start_entry(const nlohmann::json& entry);
CommitEntry commit_entry(const nlohmann::json& entry);

// The entries of one journal in order, applied one by one.
struct RunHistory {
  std::optional<StartEntry> first_start;
  std::int64_t starts = 0;
  CommittedModel committed;
  Ledger ledger;
  std::set<std::pair<std::int64_t, std::int64_t>> rounds;  // (epoch, round) of every commit
  std::string last_merge;                                  // empty before the first commit
  std::int64_t rounds_solo = 0, rounds_federated = 0;
  std::set<std::string> last_sites;  // with work in the newest commit
  std::string data;                  // of the newest commit that has one
  std::deque<double> step_norms;  // step_norm() of the newest merged deltas, at most kNormsKept, oldest first

  explicit RunHistory(std::int64_t steps) : ledger(steps) {}
  // Throws Error(bad_data) for an entry that contradicts those before it.
  void apply(const nlohmann::json& entry);
  // The blocks must be leased to the sites in the ledger, as they are when a hub commits a round.
  void commit(const CommitEntry& entry);
};

}  // namespace spillway
