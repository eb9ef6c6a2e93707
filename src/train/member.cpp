#include "train/member.hpp"

#include <algorithm>
#include <memory>

#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/log.hpp"
#include "data/ledger.hpp"
#include "optim/delta.hpp"
#include "optim/outer.hpp"
#include "optim/schedule.hpp"

namespace spillway {

std::int64_t count_blocks(const BlockRanges& ranges) {
  std::int64_t count = 0;
  for (const auto& [first, end] : ranges) count += end - first;
  return count;
}

void add_block(BlockRanges& ranges, std::int64_t block) {
  auto after = std::upper_bound(ranges.begin(), ranges.end(), block,
                                [](std::int64_t value, const auto& range) { return value < range.first; });
  const bool joins_before = after != ranges.begin() && std::prev(after)->second == block;
  const bool joins_after = after != ranges.end() && after->first == block + 1;
  if (joins_before && joins_after) {
    std::prev(after)->second = after->second;
    ranges.erase(after);
  } else if (joins_before) {
    std::prev(after)->second = block + 1;
  } else if (joins_after) {
    after->first = block;
  } else {
    ranges.insert(after, {block, block + 1});
  }
}

Member::Member(MemberIdentity identity, MemberOptions options, MemberState state, MemberHost& host)
    : identity_(std::move(identity)), options_(options), host_(host), state_(std::move(state)) {
  SPILLWAY_CHECK(state_.base.size() == state_.velocity.size());
}

std::int64_t Member::global_step() const { return state_.model.blocks + count_blocks(state_.consumed); }

std::int64_t Member::schedule_step() const {
  return paced_step(state_.model.blocks, count_blocks(state_.consumed), pace_);
}

// A round in which this member hardly trained says nothing of the next one.
void Member::measure_pace(std::int64_t own, std::int64_t merged) {
  constexpr int kLeastPart = 8;  // of an equal share
  if (own * paced_sites_ * kLeastPart >= merged)
    pace_ = static_cast<double>(merged) / static_cast<double>(own);
}

void Member::announce(bool open) {
  open_ = open;
  say_hello();
}

void Member::say_hello() {
  Hello hello;
  hello.member = identity_.name;
  hello.role = identity_.role;
  hello.run = identity_.run;
  hello.data = identity_.data;
  hello.open = open_;
  hello.model = state_.model;
  hello.consumed = state_.consumed;
  hello.pending = pending_;
  hello.leased = leased_;
  if (candidate_valid_) {
    hello.doubt_epoch = go_->epoch;
    hello.doubt_round = go_->round;
  }
  host_.send(hello);
}

void Member::handle(const Message& message) {
  if (const auto* refuse = std::get_if<Refuse>(&message))
    throw Error(static_cast<ExitCode>(refuse->exit_code), "the hub refuses this member: " + refuse->reason);
  if (std::holds_alternative<HubConnected>(message)) {
    connected_ = true;
  } else if (const auto* lost = std::get_if<HubLost>(&message)) {
    if (connected_) log_warning("hub lost: {}; training goes on within the leased data", lost->reason);
    connected_ = false;
    lease_asked_ = false;
    sites_in_epoch_ = 0;
    epoch_ = 0;
    if (!candidate_valid_) {  // else in doubt: the hub tells the outcome on reconnecting
      go_.reset();
      reopen_round();  // the hub has forgotten what it asked for
    }
  } else if (std::holds_alternative<Complete>(message)) {
    complete_ = true;
  } else {
    std::visit(
        [this](const auto& typed) {
          if constexpr (requires { this->on(typed); }) this->on(typed);
        },
        message);
  }
}

void Member::on(const Welcome& message) {
  clock_ = message.clock;
  connected_ = true;
  if (message.committed.version < state_.model.version)
    fail(ExitCode::bad_data,
         "the hub's journal ends at model version {}, this member holds version {}: the journal was replaced "
         "or "
         "belongs to another run",
         message.committed.version, state_.model.version);
  if (remembered_ && remembered_->model.version == message.committed.version &&
      remembered_->model.hash == message.committed.hash) {
    state_ = std::move(*remembered_);
    host_.model_committed(state_, "remembered");
    host_.send(Synced{0, state_.model});
    say_hello();
  }
  remembered_.reset();
  stale_ = message.committed.version > state_.model.version;
  if (!message.keep_local && !candidate_valid_) drop_local_work();
  if (message.complete && !stale_) complete_ = true;
  host_.send(WindowChange{open_, 0});  // shows the hub that the leader itself is alive
}

// Nothing of it was merged: what was handed in is this member's own again.
void Member::reopen_round() {
  ready_ = finish_asked_ = false;
  pending_.clear();
}

void Member::drop_local_work() {
  leased_.clear();
  pending_.clear();
  ready_ = false;
  lease_asked_ = lease_exhausted_ = false;
  if (!state_.consumed.empty()) {
    log_warning("{} steps trained since model version {} could not be merged: their data returns to the pool",
                count_blocks(state_.consumed), state_.model.version);
    state_.consumed.clear();
    host_.write_parameters(state_.base);
  }
  say_hello();
}

void Member::on(const Lease& message) {
  lease_asked_ = false;
  lease_exhausted_ = message.blocks.empty();
  leased_.insert(leased_.end(), message.blocks.begin(), message.blocks.end());
  std::sort(leased_.begin(), leased_.end());
  say_hello();
}

void Member::on(const Epoch& message) {
  epoch_ = message.epoch;
  lease_exhausted_ = false;  // members have changed: data may have returned to the pool
  sites_in_epoch_ = static_cast<int>(std::count_if(message.members.begin(), message.members.end(),
                                                   [](const auto& name) { return name != "vault"; }));
  if (sites_in_epoch_ == paced_sites_) return;
  paced_sites_ = sites_in_epoch_;
  pace_ = sites_in_epoch_;  // equally fast, until a merge shows otherwise
}

void Member::on(const Sync& message) {
  if (message.model.version == state_.model.version) {  // the root
    outer_copy(host_.contribution(), state_.base);
    outer_copy(host_.mailbox_velocity(), state_.velocity);
  }
  host_.send(Prepared{message.epoch, 0});
}

void Member::on(const Received& message) {
  if (message.model.version == state_.model.version) {  // came twice: work done since must not be lost
    host_.send(Synced{message.epoch, state_.model});
    return;
  }
  const auto parameters = host_.contribution();
  const auto velocity = host_.mailbox_velocity();
  const std::string hash = xxh3_hex({bytes_of(parameters), bytes_of(velocity)});
  if (!message.model.hash.empty() && hash != message.model.hash)
    fail(ExitCode::internal, "model version {} arrived with hash {} instead of {}", message.model.version,
         hash, message.model.hash);
  state_.consumed.clear();
  pending_.clear();
  state_.feedback.clear();  // of a merge that this model has left behind
  state_.model = message.model;
  outer_copy(state_.base, parameters);
  outer_copy(state_.velocity, velocity);
  host_.write_parameters(state_.base);
  stale_ = false;
  candidate_valid_ = ready_ = false;
  go_.reset();
  host_.model_committed(state_, "sync");
  say_hello();
  host_.send(Synced{message.epoch, state_.model});
}

void Member::on(const Finish& message) {
  round_ = message.round;
  finish_asked_ = true;
  if (ready_) end_round();  // it had ended on its own: only an answer to this counts
}

void Member::on(const Go& message) {
  go_ = message;
  // With overlap they were read at the round's end.
  if (message.merge == "adopt" && !pending_.empty() && !options_.overlap)
    host_.read_parameters(host_.contribution());
  host_.run([this] { prepare_exchange(); }, [this] { host_.send(Prepared{go_->epoch, go_->round}); });
}

// What this member hands in, in the mailbox: Δ is there already, of a member without work it is zero.
void Member::prepare_exchange() {
  if (go_->merge == "adopt") {
    if (!pending_.empty() && options_.overlap) outer_copy(host_.contribution(), snapshot_);
    return;
  }
  if (pending_.empty()) outer_clear(host_.contribution());
  if (go_->wire != "int8") return;
  const auto feedback = host_.mailbox_feedback();
  if (state_.feedback.empty())
    outer_clear(feedback);
  else
    outer_copy(feedback, state_.feedback);
}

void Member::on(const Exchanged& message) {
  if (!go_ || go_->round != message.round || go_->epoch != message.epoch)
    return;  // of an epoch given up since
  host_.run([this] { make_candidate(); },
            [this, message] {
              host_.candidate_ready(candidate_);
              candidate_valid_ = true;
              say_hello();
              host_.send(Done{message.epoch, message.round, candidate_.model.hash, message.seconds,
                              state_.consumed != pending_});
            });
}

// From the exchange's result.
void Member::make_candidate() {
  const auto result = host_.contribution();
  candidate_.model = go_->next;
  candidate_.base.resize(result.size());
  candidate_.velocity.resize(result.size());
  candidate_.feedback.clear();
  if (go_->merge != "adopt" && go_->wire == "int8") {
    const auto feedback = host_.mailbox_feedback();
    candidate_.feedback.assign(feedback.begin(), feedback.end());
  }
  if (go_->merge == "average") {
    outer_average(candidate_.base, candidate_.velocity, state_.base, result);
  } else {
    if (go_->reset_velocity)
      outer_clear(candidate_.velocity);
    else
      outer_copy(candidate_.velocity, state_.velocity);
    if (go_->merge == "nesterov")
      outer_step(candidate_.base, candidate_.velocity, state_.base, result, options_.outer);
    else
      outer_copy(candidate_.base, result);
  }
  candidate_.model.hash = xxh3_hex({bytes_of(candidate_.base), bytes_of(candidate_.velocity)});
}

void Member::on(const Commit& message) {
  if (!candidate_valid_ || go_->round != message.round) return;
  if (message.model.hash != candidate_.model.hash)
    fail(ExitCode::internal, "round {} was committed with hash {}, this member computed {}", message.round,
         message.model.hash, candidate_.model.hash);
  adopt_candidate();
}

void Member::on(const Outcome& message) {
  if (!candidate_valid_) return reopen_round();  // a round without work: it goes on
  if (go_->round != message.round) return;
  log_info("round {} was {} while the hub was away", message.round,
           message.committed ? "committed" : "given up");
  if (message.committed) {
    adopt_candidate();
  } else {
    candidate_valid_ = false;
    go_.reset();
    reopen_round();
    say_hello();
  }
}

// With overlap the local parameters may have moved on: then they change by what the merge has changed, merged − snapshot.
void Member::adopt_candidate() {
  host_.run(
      [this] {
        if (options_.overlap) outer_delta(host_.contribution(), candidate_.base, snapshot_);
      },
      [this] { take_candidate(); });
}

void Member::take_candidate() {
  const std::string how = go_->merge;
  std::swap(state_.base, candidate_.base);
  std::swap(state_.velocity, candidate_.velocity);
  if (how != "adopt") std::swap(state_.feedback, candidate_.feedback);
  const bool trained = !pending_.empty();
  if (trained && how != "adopt")
    measure_pace(count_blocks(pending_), candidate_.model.blocks - state_.model.blocks);
  state_.model = candidate_.model;
  RangeSet since(state_.consumed);
  for (const auto& [first, end] : pending_) since.remove(first, end);
  state_.consumed = since.ranges();
  pending_.clear();
  candidate_valid_ = false;
  go_.reset();
  ready_ = finish_asked_ = lease_exhausted_ = false;
  // The one site that has trained holds the adopted parameters already, and has moved on from them.
  if (how != "adopt" || !trained) {
    if (since.empty())
      host_.write_parameters(state_.base);
    else
      host_.add_to_parameters(host_.contribution());
  }
  if (how != "adopt") host_.write_optimizer_state();
  host_.model_committed(state_, how);
  say_hello();
}

void Member::on(const Abort& message) {
  log_warning("epoch {} ended: {}", message.epoch, message.reason);
  epoch_ = 0;
  sites_in_epoch_ = 0;
  go_.reset();
  candidate_valid_ = lease_exhausted_ = false;
  reopen_round();  // it goes on in the next epoch
  say_hello();
}

void Member::on(const Stop&) {
  epoch_ = 0;
  sites_in_epoch_ = 0;
  reopen_round();
  advance();
}

bool Member::may_train() const {
  return !leased_.empty() && !stale_ && !leaving_ && !complete_ &&
         (options_.overlap || (!ready_ && !candidate_valid_));
}

std::int64_t Member::next_block() const {
  SPILLWAY_CHECK(may_train());
  return leased_.front().first;
}

void Member::block_done() {
  add_block(state_.consumed, leased_.front().first);
  if (++leased_.front().first == leased_.front().second) leased_.erase(leased_.begin());
  say_hello();
}

void Member::end_round() {
  ready_ = true;
  Ready ready;
  ready.round = finish_asked_ ? round_ : 0;
  ready.version = state_.model.version;
  ready.consumed = state_.consumed;
  ready.tokens = count_blocks(state_.consumed) * options_.tokens_per_step;
  const auto statistics = std::make_shared<DeltaStatistics>();
  auto send = [this, ready, statistics]() mutable {
    if (!pending_.empty())
      ready.delta = {statistics->finite, statistics->norm, statistics->tensor_norms, statistics->sketch};
    ready.energy = host_.energy_so_far();
    host_.send(ready);
  };
  if (!finish_asked_) return send();
  pending_ = state_.consumed;
  say_hello();
  if (pending_.empty() && !options_.overlap) return send();
  // The hub looks at the delta before it is merged. The mailbox is free: no exchange is under way in a round, and
  // until Go nothing else is written to it.
  host_.read_parameters(host_.contribution());
  host_.read_optimizer_state();
  host_.run([this, statistics] { *statistics = measure_round(); }, send);
}

// Δ = base − local into the mailbox, where the local parameters are.
DeltaStatistics Member::measure_round() {
  const auto values = host_.contribution();
  if (options_.overlap) {
    snapshot_.resize(values.size());
    outer_copy(snapshot_, values);
  }
  if (pending_.empty()) return {};
  outer_delta(values, state_.base, values);
  return measure_delta(values, options_.tensor_ends);
}

void Member::advance() {
  if (!connected_ || !clock_ || stale_ || complete_) return;
  const bool trains = identity_.role == "site";
  const bool merging = ready_ || candidate_valid_;
  if (trains && (!merging || options_.overlap) && !leaving_ && !lease_asked_ && !lease_exhausted_ &&
      count_blocks(leased_) <= options_.lease_steps / 2) {
    lease_asked_ = true;
    host_.send(LeaseRequest{options_.lease_steps});
  }
  if (candidate_valid_) return;
  const std::int64_t done = count_blocks(state_.consumed);
  const bool due =
      finish_asked_ ||
      (done > 0 && (leaving_ || done >= options_.round_steps || (leased_.empty() && lease_exhausted_)));
  if (due && !ready_ && !go_) end_round();
  if (leaving_ && state_.consumed.empty() && epoch_ == 0 && !left_) {
    host_.send(Bye{"window closed"});
    left_ = true;
  }
}

void Member::leave(const std::string& reason) {
  if (leaving_) return;
  leaving_ = true;
  open_ = false;
  log_info("leaving the federation: {}", reason);
  say_hello();
  if (connected_)
    host_.send(WindowChange{false, 0});
  else if (state_.consumed.empty())
    left_ = true;
  advance();
}

}  // namespace spillway
