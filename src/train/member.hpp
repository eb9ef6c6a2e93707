// A member of the federation, seen from its leader: which committed model it holds, which data it may train on, and how
// a round ends. A pure state machine over the messages of comm/protocol.hpp: no sockets, no clock. Used by the trainer
// (role "site") and by the vault (role "vault", trains on nothing and keeps every committed model on disk).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/protocol.hpp"
#include "optim/delta.hpp"
#include "optim/outer.hpp"

namespace spillway {

struct MemberIdentity {
  std::string name;
  std::string role;  // "site" or "vault"
  std::string run;   // run_digest() of the configuration
  std::string data;  // data_digest() of what it trains on; empty: nothing
};

struct MemberOptions {
  std::int64_t tokens_per_step = 0;
  int lease_steps = 50;   // blocks leased at a time
  int round_steps = 200;  // most blocks trained on between two merges
  // The site trains on while a round is merged. The result is then added to parameters that have moved meanwhile
  // by what the merge has changed, and those steps belong to the next round.
  bool overlap = false;
  OuterSettings outer;
  std::vector<std::int64_t> tensor_ends;  // of the tensors in the flat vector; empty: no norms per tensor
};

// The committed model a member holds, and its own work since. Part of a site's checkpoint.
struct MemberState {
  CommittedModel model;
  std::vector<float> base;      // parameters of the committed model, in layout order
  std::vector<float> velocity;  // outer velocity of the committed model
  BlockRanges consumed;         // blocks trained on since then
  // What int8 kept back of this member's part in the last merge (RingWire); empty with other formats.
  std::vector<float> feedback = {};
};

// What a member needs from the process it lives in.
class MemberHost {
 public:
  virtual ~MemberHost() = default;
  virtual void send(const Message& message) = 0;  // to the courier
  // The site's energy ledger so far, as the journal keeps it for the round; null where there is none.
  virtual nlohmann::json energy_so_far() { return nullptr; }
  virtual std::span<float> contribution() = 0;  // mailbox arrays of parameter_count floats
  virtual std::span<float> mailbox_velocity() = 0;
  virtual std::span<float> mailbox_feedback() = 0;                 // takes memory from its first use on
  virtual void read_parameters(std::span<float> to) = 0;           // the local, trained parameters
  virtual void write_parameters(std::span<const float> from) = 0;  // replaces them
  virtual void add_to_parameters(std::span<const float> difference) = 0;
  // Where merges average the optimizers' states: this site's into the mailbox, and the average out of there. Done before the
  // next message is handled and the next block is trained on.
  virtual void read_optimizer_state() {}
  virtual void write_optimizer_state() {}
  // Runs `work`, which takes long and reads neither parameters nor blocks, then `done`. With overlap `work` may run on
  // another thread and `done` later, on this one: until then training can go on, but no message may be handled.
  virtual void run(const std::function<void()>& work, const std::function<void()>& done) {
    work();
    done();
  }
  // Called before `done` is sent: a vault makes the candidate durable here.
  virtual void candidate_ready(const MemberState& candidate) = 0;
  // A new committed model is in place, by a round ("adopt", "nesterov", "average") or by a sync ("sync").
  virtual void model_committed(const MemberState& state, const std::string& how) = 0;
};

class Member {
 public:
  Member(MemberIdentity identity, MemberOptions options, MemberState state, MemberHost& host);

  // Says hello: the courier passes it on now and after every reconnection.
  void announce(bool open);

  // A candidate of an earlier process whose commit that one did not see: taken over if the hub says it was committed.
  void remember_candidate(MemberState candidate) { remembered_ = std::move(candidate); }

  // Throws Error with the hub's exit code if the hub refuses this member.
  void handle(const Message& message);

  // May a block be trained on now? (model up to date, data leased, round not ended)
  bool may_train() const;
  // The block to train on next. Requires may_train().
  std::int64_t next_block() const;
  // It has been trained on and counts as this member's work in the round.
  void block_done();

  // Asks for data when little is left and ends the round when it is due. Call between blocks and while waiting.
  void advance();

  // The window closes: end the round now, and leave once the work is merged.
  void leave(const std::string& reason);

  bool left() const { return left_; }          // out of the federation, nothing pending
  bool complete() const { return complete_; }  // the run has reached its target
  bool connected() const { return connected_; }
  bool welcomed() const { return clock_.has_value(); }
  bool federated() const { return sites_in_epoch_ > 1; }  // trains together with other sites
  // Its round has ended, and the merge is awaited or under way.
  bool merging() const { return connected_ && (ready_ || go_ || candidate_valid_); }
  const std::optional<ClockSpec>& clock() const { return clock_; }
  const MemberState& state() const { return state_; }
  // Optimizer steps behind the local parameters.
  std::int64_t global_step() const;
  // The step that schedules read: the run's progress as far as this member can tell, with what the others train meanwhile.
  std::int64_t schedule_step() const;

 private:
  void on(const Welcome& message);
  void on(const Lease& message);
  void on(const Epoch& message);
  void on(const Sync& message);
  void on(const Received& message);
  void on(const Finish& message);
  void on(const Go& message);
  void on(const Exchanged& message);
  void on(const Commit& message);
  void on(const Outcome& message);
  void on(const Abort& message);
  void on(const Stop& message);

  void say_hello();
  void end_round();
  DeltaStatistics measure_round();
  void reopen_round();
  void prepare_exchange();
  void make_candidate();
  void adopt_candidate();
  void take_candidate();
  void drop_local_work();
  void measure_pace(std::int64_t own, std::int64_t merged);

  MemberIdentity identity_;
  MemberOptions options_;
  MemberHost& host_;
  MemberState state_;
  MemberState candidate_;  // result of an exchange that is not committed yet
  std::optional<MemberState> remembered_;
  std::optional<Go> go_;          // the exchange under way
  bool candidate_valid_ = false;  // the exchange is done; between `done` and `commit` the member is in doubt
  BlockRanges pending_;  // blocks of the round that has ended: part of state_.consumed until its commit
  std::vector<float> snapshot_;  // with overlap: the local parameters at that round's end
  BlockRanges leased_;
  std::optional<ClockSpec> clock_;
  std::int64_t epoch_ = 0;  // 0: in none
  int sites_in_epoch_ = 0;
  int paced_sites_ = 0;     // for which the pace holds
  double pace_ = 1;         // blocks that all sites together train while this one trains one
  std::int64_t round_ = 0;  // of the last Finish
  bool open_ = false;
  bool connected_ = false;
  bool stale_ = false;  // a newer committed model exists: wait for the sync
  bool lease_asked_ = false;
  bool lease_exhausted_ = false;  // the last answer was empty: all data is leased or merged
  bool finish_asked_ = false;     // the hub wants the round to end
  bool ready_ = false;            // the local round has ended
  bool leaving_ = false;
  bool left_ = false;
  bool complete_ = false;
};

// Number of blocks in the ranges.
std::int64_t count_blocks(const BlockRanges& ranges);
// Adds one block, joining it to a neighbouring range where it continues it. Ranges stay ordered and disjoint.
void add_block(BlockRanges& ranges, std::int64_t block);

}  // namespace spillway
