// Rounds: when they end, how they are merged, and their commit.
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "train/coordinator.hpp"

namespace spillway {

void Coordinator::begin_round(double now_s) {
  epoch_->state = EpochState::up;
  epoch_->since_s = now_s;
  epoch_->answered.clear();
  epoch_->hashes.clear();
  round_ = RoundInfo{};
  round_.id = next_round_++;
  round_.began_s = now_s;
}

bool Coordinator::sync_stale_members(double now_s) {
  Sync sync;
  sync.epoch = epoch_->id;
  sync.model = history_.committed;
  sync.root = -1;
  for (std::size_t i = 0; i < epoch_->members.size(); ++i) {
    const auto& model = members_.at(epoch_->members[i]).model;
    if (model.version != history_.committed.version)
      sync.targets.push_back(static_cast<int>(i));
    else if (sync.root < 0)
      sync.root = static_cast<int>(i);
  }
  if (sync.targets.empty()) return false;
  if (sync.root < 0) {
    fail_epoch(now_s,
               fmt::format("nobody here holds the committed model version {}: waiting for a member that does",
                           history_.committed.version),
               5);
    return true;
  }
  epoch_->state = EpochState::syncing;
  epoch_->since_s = now_s;
  epoch_->answered.clear();
  epoch_->hashes.clear();
  for (const int target : sync.targets)
    epoch_->hashes[epoch_->members[static_cast<std::size_t>(target)]] = "";
  log_info("epoch {}: {} sends model version {} to {} members", epoch_->id,
           epoch_->members[static_cast<std::size_t>(sync.root)], sync.model.version, sync.targets.size());
  send_all(sync);
  return true;
}

void Coordinator::tick_up(double now_s) {
  if (sync_stale_members(now_s)) return;
  if (complete()) {
    stop_epoch(now_s);
    return;
  }
  const bool changing = wanted_members() != epoch_->members && now_s - last_change_s_ >= options_.settle_s;
  if (!round_.finish_s) {
    const bool due = now_s - round_.began_s >= options_.round_length_s;
    if (changing || due || !round_.ready.empty()) finish_round(now_s);
    return;
  }
  if (round_.ready.size() == epoch_->members.size()) {
    close_round(now_s);
  } else if (now_s - *round_.finish_s > options_.round_deadline_s) {
    std::string late;
    for (const auto& name : epoch_->members) {
      if (round_.ready.count(name) != 0) continue;
      members_.at(name).lagging = true;
      late += (late.empty() ? "" : ", ") + name;
    }
    fail_epoch(now_s, late + " did not end the round within " + format_duration(options_.round_deadline_s),
               options_.settle_s);
  }
}

void Coordinator::finish_round(double now_s) {
  round_.finish_s = now_s;
  send_all(Finish{round_.id});
}

void Coordinator::on_ready(double now_s, const std::string& name, const Ready& ready) {
  MemberInfo& info = members_.at(name);
  if (info.lagging) last_change_s_ = now_s;
  info.lagging = false;
  if (!in_epoch(name) || epoch_->state != EpochState::up) return;
  if (ready.version != history_.committed.version || (ready.round != 0 && ready.round != round_.id)) return;
  const RangeSet own = history_.ledger.leased(name);
  for (const auto& [first, end] : ready.consumed)
    if (!own.contains(first, end)) {
      fail_epoch(now_s,
                 fmt::format("{} trained on blocks [{}, {}), which it does not hold", name, first, end),
                 options_.settle_s);
      return;
    }
  round_.ready[name] = ready;
}

void Coordinator::close_round(double now_s) {
  std::int64_t tokens = 0, blocks = 0;
  std::vector<std::size_t> working;
  for (std::size_t i = 0; i < epoch_->members.size(); ++i) {
    const Ready& ready = round_.ready.at(epoch_->members[i]);
    tokens += ready.tokens;
    blocks += RangeSet(ready.consumed).count();
    if (ready.tokens > 0) working.push_back(i);
  }
  if (working.empty()) {  // nothing to merge: the round goes on, or the epoch ends for a change of members
    send_all(Outcome{epoch_->id, round_.id, false});
    if (wanted_members() != epoch_->members)
      stop_epoch(now_s);
    else
      begin_round(now_s);
    return;
  }
  Go& go = round_.go;
  go.epoch = epoch_->id;
  go.round = round_.id;
  go.next = {history_.committed.version + 1, history_.committed.blocks + blocks, ""};
  for (const auto& name : epoch_->members)
    go.weights.push_back(static_cast<double>(round_.ready.at(name).tokens) / static_cast<double>(tokens));
  const double averaged_from = (1 - options_.average_last) * static_cast<double>(options_.steps);
  if (working.size() == 1) {
    go.merge = "adopt";
    go.root = static_cast<int>(working.front());
    go.reset_velocity = true;
  } else {
    go.merge = static_cast<double>(go.next.blocks) > averaged_from ? "average" : "nesterov";
  }
  epoch_->state = EpochState::exchanging;
  epoch_->since_s = now_s;
  epoch_->answered.clear();
  epoch_->hashes.clear();
  send_all(go);
}

void Coordinator::on_done(double now_s, const std::string& name, const Done& done) {
  if (epoch_->state != EpochState::exchanging || done.round != round_.id) return;
  epoch_->hashes[name] = done.hash;
  epoch_->answered.insert(name);
  if (!all_answered()) return;
  for (const auto& [member, hash] : epoch_->hashes)
    if (hash != done.hash) {
      fail_epoch(now_s,
                 fmt::format("round {}: {} computed hash {}, {} computed {}: the round is repeated",
                             round_.id, member, hash, name, done.hash),
                 options_.settle_s);
      return;
    }
  commit_round(now_s, done.hash);
}

void Coordinator::commit_round(double now_s, const std::string& hash) {
  nlohmann::json work = nlohmann::json::object();
  for (const auto& [name, ready] : round_.ready)
    if (ready.tokens > 0) work[name] = {{"tokens", ready.tokens}, {"blocks", ready.consumed}};
  CommittedModel next = round_.go.next;
  next.hash = hash;
  const nlohmann::json entry = {
      {"type", "commit"},         {"epoch", epoch_->id},   {"round", round_.id},
      {"version", next.version},  {"blocks", next.blocks}, {"hash", hash},
      {"merge", round_.go.merge}, {"members", work},       {"clock_unix_s", clock_.now_unix_s()}};
  // The point of no return: once it is on disk the round is committed, whatever dies next.
  host_.append_journal(entry);
  history_.committed = next;
  history_.rounds.emplace(epoch_->id, round_.id);
  ++(round_.go.merge == "adopt" ? history_.rounds_solo : history_.rounds_federated);
  for (const auto& [name, ready] : round_.ready) {
    history_.ledger.commit(name, RangeSet(ready.consumed));
    members_.at(name).model = next;
  }
  log_info("version {}: {} of {} steps, {} of {}", next.version, next.blocks, options_.steps, round_.go.merge,
           fmt::join(epoch_->members, ", "));
  send_all(Commit{epoch_->id, round_.id, next});
  if (complete()) {
    for (const auto& [name, info] : members_) host_.send(name, Complete{next});
  }
  begin_round(now_s);
}

}  // namespace spillway
