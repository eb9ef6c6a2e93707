// The hub's decisions: who is in the federation, when rounds end, what is committed. A state machine without sockets,
// files or a clock of its own: events come in with the time, messages and requests go out through CoordinatorHost.
//
//   epoch   none → forming → up ⇄ syncing → stopping → none     (failure in any state → none, members told by abort)
//   round   training → finishing (Finish sent) → exchanging (Go sent) → committed → training …
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/protocol.hpp"
#include "data/ledger.hpp"

namespace spillway {

struct CoordinatorOptions {
  std::string run;                   // run_digest() that every member must have
  std::int64_t steps = 0;            // blocks of the whole run
  double round_length_s = 600;       // local training between two merges
  double round_deadline_s = 120;     // for all members to end their round, and for all to finish an exchange
  double formation_deadline_s = 20;  // for all gateways to form
  double stop_deadline_s = 4;        // for all gateways to stop; they are killed by their couriers anyway
  double settle_s = 0.3;             // membership must be quiet this long before a new epoch
  double lost_lease_s = 10;          // a lost member's data returns to the pool after this
  double average_last = 0.1;         // last part of the run that is merged by plain average
  std::int64_t longest_lease = 10000;  // blocks per request
};

// What the coordinator asks of the process around it.
class CoordinatorHost {
 public:
  virtual ~CoordinatorHost() = default;
  virtual void send(const std::string& member, const Message& message) = 0;
  // Starts the epoch's name server and returns its URI; empty where it could not be started.
  virtual std::string start_name_server(std::int64_t epoch) = 0;
  virtual void stop_name_server() = 0;
  // Appends to the journal and returns when it is on disk. Throws Error(io) otherwise: then nothing is committed.
  virtual void append_journal(const nlohmann::json& entry) = 0;
};

// What a journal tells a restarted hub.
struct CoordinatorHistory {
  std::int64_t starts = 0;  // times a hub was started on this journal before
  CommittedModel committed;
  Ledger ledger;
  std::set<std::pair<std::int64_t, std::int64_t>> rounds;  // (epoch, round) of every commit
  std::int64_t rounds_solo = 0, rounds_federated = 0;

  explicit CoordinatorHistory(std::int64_t steps) : ledger(steps) {}
  // Applies one journal entry. Throws Error(bad_data) for one that contradicts those before it.
  void apply(const nlohmann::json& entry);
};

class Coordinator {
 public:
  Coordinator(CoordinatorOptions options, CoordinatorHistory history, ClockSpec clock, CoordinatorHost& host);

  // A hello over a new connection. With a reason to refuse it, nothing has changed: send that and close the connection.
  std::optional<Refuse> connected(double now_s, const Hello& hello);
  void received(double now_s, const std::string& member, const Message& message);
  // The connection to a member ended without a bye.
  void disconnected(double now_s, const std::string& member, const std::string& reason);
  void name_server_died(double now_s);
  // Deadlines and decisions; call every 50 ms or so, and after events.
  void tick(double now_s);

  const CommittedModel& committed() const { return history_.committed; }
  bool complete() const { return history_.ledger.complete(); }
  const CoordinatorHistory& history() const { return history_; }
  // For display: clock, committed model, epoch, members with their progress, ledger.
  nlohmann::json snapshot(double now_s) const;

 private:
  struct MemberInfo {
    std::string role;
    std::string probe;
    bool open = false;
    bool lagging = false;  // missed a deadline; out until it speaks about its round again
    CommittedModel model;
    std::map<std::string, bool> reach;
    nlohmann::json progress;
  };
  enum class EpochState { forming, up, syncing, exchanging, stopping };
  struct EpochInfo {
    std::int64_t id = 0;
    std::vector<std::string> members;  // in rank order
    EpochState state = EpochState::forming;
    double since_s = 0;              // of the state
    std::set<std::string> answered;  // formed, synced, done or stopped so far
    std::map<std::string, std::string> hashes;
  };
  struct RoundInfo {
    std::int64_t id = 0;
    double began_s = 0;
    std::optional<double> finish_s;  // when Finish was sent
    std::map<std::string, Ready> ready;
    Go go;
  };

  // Membership (coordinator.cpp)
  std::optional<std::string> reason_to_refuse(const Hello& hello) const;
  void welcome(const std::string& name, const Hello& hello);
  void answer_lease(const std::string& name, const LeaseRequest& request);
  void leave(double now_s, const std::string& name, const std::string& reason);
  std::vector<std::string> wanted_members() const;
  bool reachable(const std::vector<std::string>& members) const;
  void start_epoch(double now_s, const std::vector<std::string>& members);
  void stop_epoch(double now_s);
  void end_epoch(double now_s);
  void fail_epoch(double now_s, const std::string& reason, double pause_s);
  void heartbeats(double now_s);
  void tick_epoch(double now_s);
  void send_all(const Message& message);
  bool in_epoch(const std::string& name) const;
  bool all_answered() const { return epoch_->answered.size() == epoch_->members.size(); }

  // Rounds (coordinator_rounds.cpp)
  void begin_round(double now_s);
  void tick_up(double now_s);
  bool sync_stale_members(double now_s);
  void finish_round(double now_s);
  void close_round(double now_s);
  void on_ready(double now_s, const std::string& name, const Ready& ready);
  void on_done(double now_s, const std::string& name, const Done& done);
  void commit_round(double now_s, const std::string& hash);

  CoordinatorOptions options_;
  CoordinatorHistory history_;
  ClockSpec clock_;
  CoordinatorHost& host_;
  std::map<std::string, MemberInfo> members_;                        // connected ones
  std::map<std::string, double> lost_since_s_;                       // lost members that still hold leases
  std::map<std::pair<std::string, std::string>, double> bad_pairs_;  // until when two members are kept apart
  std::optional<EpochInfo> epoch_;
  RoundInfo round_;
  std::int64_t next_epoch_ = 1, next_round_ = 1;
  double last_change_s_ = 0;  // of the membership
  double not_before_s_ = 0;   // next epoch: a pause after failures
  double last_heartbeat_s_ = -1e300;
};

}  // namespace spillway
