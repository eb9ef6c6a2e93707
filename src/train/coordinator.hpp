// The hub's decisions: who is in the federation, when rounds end, what is committed. A state machine without sockets,
// files or a clock of its own: events come in with the time, messages and requests go out through CoordinatorHost.
//
//   epoch   none → naming (its name server starts) → forming → up ⇄ syncing
//                                                              up ⇄ exchanging (Go sent) → up | stopping → none
//           A failure in any state leads to none; the members learn it by abort.
//   round   training → finishing (Finish sent) → all ready → exchanging → committed
//
// Rules that keep the data exact:
//   - The journal line of a round is on disk before anybody hears of its commit.
//   - Only an answer to Finish, with its round number, is merged. A member that ends its round on its own (Ready with
//     round 0) is asked again by Finish: what it said before an abort or reconnection never counts.
//   - A member whose model is not the committed one holds no blocks. Who was not in the epoch that committed loses its
//     work; it is told by a welcome with keep_local = false.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/protocol.hpp"
#include "train/membership.hpp"
#include "train/run_history.hpp"

namespace spillway {

struct CoordinatorOptions {
  std::string run;                   // run_digest() that every member must have
  std::string data;                  // data_digest() that every site must have; empty: what the first one has
  std::int64_t tokens_per_step = 0;  // tokens of one block
  double round_length_s = 600;       // local training between two merges
  double round_deadline_s = 120;     // for all members to end their round, and for an exchange or a sync
  double name_server_deadline_s = 10;
  double formation_deadline_s = 20;  // for all gateways to form
  double stop_deadline_s = 4;        // for all gateways to stop; their couriers kill them anyway
  double settle_s = 0.3;             // membership must be quiet this long before it is acted upon
  double lost_lease_s = 10;   // time to come back: for a lost member's data, and for all after a restart
  double average_last = 0.1;  // last part of the run that is merged by plain average
  std::string wire = "bf16";  // how Δ travels (comm/wire.hpp)
  int streams = 1;            // of an epoch (comm/protocol.hpp)
  double delta_limit = 10;    // multiple of the running median norm beyond which a delta is refused; 0: none
  std::int64_t longest_lease = 10000;  // blocks per request
};

// What the coordinator asks of the process around it.
class CoordinatorHost {
 public:
  virtual ~CoordinatorHost() = default;
  virtual void send(const std::string& member, const Message& message) = 0;
  // Starts the name server of an epoch. The answer is name_server_ready() or name_server_died(), later.
  virtual void start_name_server(std::int64_t epoch) = 0;
  virtual void stop_name_server() = 0;
  // Appends to the journal and returns when it is on disk. Throws Error(io) otherwise: then nothing is committed.
  virtual void append_journal(const nlohmann::json& entry) = 0;
  // A committed round with its timing and deltas, for logs and display; may be lost in a crash.
  virtual void record_round(const nlohmann::json& round) = 0;
  virtual double clock_unix_s() const = 0;  // simulated time, for the journal and for display
};

class Coordinator {
 public:
  // `history` is that of the journal before this start.
  Coordinator(CoordinatorOptions options, RunHistory history, ClockSpec clock, CoordinatorHost& host);

  // A hello over a new connection. With a reason to refuse it nothing has changed: send that and close the connection.
  // Throws Error(bad_data) where its lists of blocks contradict themselves.
  std::optional<Refuse> connected(double now_s, const Hello& hello);
  void received(double now_s, const std::string& member, const Message& message);
  // The connection to a member ended; after a bye nothing happens.
  void disconnected(double now_s, const std::string& member, const std::string& reason);
  void name_server_ready(double now_s, const std::string& uri);
  void name_server_died(double now_s, const std::string& reason);
  // Deadlines and decisions; call every 50 ms or so, and after events.
  void tick(double now_s);

  const CommittedModel& committed() const { return history_.committed; }
  bool complete() const { return history_.ledger.complete(); }
  // Complete, and no site is connected any more.
  bool everybody_gone() const;
  // The hub ends: whoever is still connected learns that the run is complete, if it is.
  void farewell();
  const RunHistory& history() const { return history_; }
  // For display: clock, committed model, epoch, members with their progress, ledger.
  nlohmann::json snapshot(double now_s) const;

 private:
  struct MemberInfo {
    std::string role;
    std::string probe;
    bool open = false;
    bool lagging = false;                   // missed a deadline; out until its leader is heard again
    bool silent = false;                    // its courier says so of its leader's process
    bool wants_merge = false;               // has ended its round on its own
    bool has_work = false;                  // there are trained blocks to merge, as far as it has said
    bool formed = false;                    // its gateway has been in an epoch since it connected
    std::int64_t wants_blocks = 0;          // lease request that is not served yet
    bool told_empty = false;                // and was answered so
    std::optional<double> outside_since_s;  // an epoch is up without it
    double connected_s = 0;
    CommittedModel model;
    std::map<std::string, bool> reach;
    std::int64_t refused_deltas = 0;
    int refused_in_row = 0;  // of them, since the last usual one
    nlohmann::json progress;
  };
  enum class EpochState { naming, forming, up, syncing, exchanging, stopping };
  struct EpochInfo {
    std::int64_t id = 0;
    std::vector<std::string> members;  // in rank order
    EpochState state = EpochState::naming;
    double since_s = 0;             // of the state
    std::set<std::string> awaited;  // members whose formed, synced, done or stopped is missing
    double form_s = 0;              // that its formation took; 0 again after its first round
    std::string sync_root;          // who sends the model, while syncing
  };
  struct RoundInfo {
    std::int64_t id = 0;
    double began_s = 0;
    std::optional<double> finish_s;  // when Finish was sent
    std::map<std::string, Ready> ready;
    std::map<std::string, std::int64_t> refused;  // deltas, by member
    std::map<std::string, std::string> hashes;    // of the candidates
    std::set<std::string> trained_on;             // members with work for the next round already
    double go_s = 0, exchange_s = 0;              // when Go was sent; the longest exchange of a member
    Go go;
  };

  // Members and their data (coordinator.cpp)
  std::optional<Refuse> reason_to_refuse(const Hello& hello) const;
  void welcome(const std::string& name, const Hello& hello);
  void on(double now_s, const std::string& name, const WindowChange& message);
  void on(double now_s, const std::string& name, const LeaseRequest& message);
  void on(double now_s, const std::string& name, const Ready& message);
  void on(double now_s, const std::string& name, const Formed& message);
  void on(double now_s, const std::string& name, const Synced& message);
  void on(double now_s, const std::string& name, const Done& message);
  void on(double now_s, const std::string& name, const Fail& message);
  void on(double now_s, const std::string& name, const Stopped& message);
  void on(double now_s, const std::string& name, const MemberHeartbeat& message);
  void on(double now_s, const std::string& name, const Bye& message);
  const std::string& data_of_run() const;
  void heard(double now_s, MemberInfo& info);
  bool gathering(double now_s) const;
  bool may_lease(double now_s, const std::string& name) const;
  void serve_leases(double now_s);
  void take_back(const std::string& name, const std::string& reason);
  void release_lost(double now_s);
  void release_outsiders(double now_s);
  void release_stale();
  void member_gone(double now_s, const std::string& name, const std::string& reason);
  void heartbeats(double now_s);
  bool current(const MemberInfo& info) const;

  // Epochs (coordinator_epochs.cpp)
  bool wanted(double now_s, const std::string& name) const;
  bool connected_pair(double now_s, const std::string& a, const std::string& b) const;
  std::vector<std::string> wanted_members(double now_s) const;
  bool newcomer_left_out(double now_s, const std::vector<std::string>& members) const;
  void tick_without_epoch(double now_s);
  bool membership_changes(double now_s) const;
  void start_epoch(double now_s, const std::vector<std::string>& members);
  void stop_epoch(double now_s);
  void end_epoch();
  void fail_epoch(double now_s, const std::string& reason, double pause_s);
  void enter(double now_s, EpochState state, std::set<std::string> awaited = {});
  std::set<std::string> everybody() const;
  void blame_formation(double now_s);
  void answered(const std::string& name, std::int64_t epoch, EpochState state);
  void tick_epoch(double now_s);
  void send_epoch(const Message& message);
  bool in_epoch(const std::string& name) const;
  bool sync_stale_members(double now_s);

  // Rounds (coordinator_rounds.cpp)
  void begin_round(double now_s);
  void tick_up(double now_s);
  void finish_round(double now_s);
  bool insists(const std::string& name, const Ready& message);
  void drop_late(double now_s);
  bool drop_silent(double now_s);
  void drop(double now_s, const std::set<std::string>& members, const std::string& reason);
  void close_round(double now_s);
  void order_exchange(double now_s, const std::vector<int>& working);
  void check_hashes(double now_s);
  void commit_round(double now_s);
  void report_round(double now_s, const CommitEntry& entry);
  void resume_training(const Message& message);

  CoordinatorOptions options_;
  RunHistory history_;
  ClockSpec clock_;
  CoordinatorHost& host_;
  std::map<std::string, MemberInfo> members_;   // connected ones
  std::map<std::string, double> lost_since_s_;  // lost members that still hold blocks
  std::string first_data_;                      // of the first site since this start
  Blame blame_;
  std::optional<EpochInfo> epoch_;
  RoundInfo round_;
  std::int64_t next_epoch_ = 1, next_round_ = 1;
  double last_change_s_ = -1e300;            // of the membership
  double not_before_s_ = -1e300;             // next epoch: a pause after failures
  std::optional<double> lease_from_s_;       // after a restart members come back with their blocks first
  std::optional<double> startable_since_s_;  // an epoch could begin, but for a newcomer
  std::set<std::string> missed_;          // sites away that may come back with work on the committed version
  std::optional<double> gather_until_s_;  // for them, since the first site is back after all were gone
  double last_heartbeat_s_ = -1e300;
  bool holder_missing_ = false;
};

}  // namespace spillway
