// Rounds: when they end, how they are merged, and their commit.
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "train/coordinator.hpp"
#include "train/delta_watch.hpp"

namespace spillway {
namespace {

// Refused deltas in a row after which a lone site is believed.
constexpr int kInsisting = 3;

}  // namespace

void Coordinator::begin_round(double now_s) {
  enter(now_s, EpochState::up);
  // What a round without a merge refused is told with the next one's.
  auto refused = std::move(round_.refused);
  round_ = RoundInfo{};
  round_.refused = std::move(refused);
  round_.id = next_round_++;
  round_.began_s = now_s;
}

// Each of commit, outcome, stop and abort sends the members back to training: requests of before are void.
void Coordinator::resume_training(const Message& message) {
  for (const auto& name : epoch_->members)
    if (const auto member = members_.find(name); member != members_.end())
      member->second.wants_merge = member->second.has_work = false;
  send_epoch(message);
}

void Coordinator::tick_up(double now_s) {
  if (sync_stale_members(now_s)) return;
  if (complete()) {  // it was up for members that came late, and they have the final model now
    send_epoch(Complete{history_.committed});
    stop_epoch(now_s);
    return;
  }
  if (!round_.finish_s) {
    const bool due = now_s - round_.began_s >= options_.round_length_s;
    const bool asked = std::any_of(epoch_->members.begin(), epoch_->members.end(),
                                   [this](const auto& name) { return members_.at(name).wants_merge; });
    if (due || asked || membership_changes(now_s)) finish_round(now_s);
  } else if (round_.ready.size() == epoch_->members.size()) {
    close_round(now_s);
  } else if (!drop_silent(now_s) && now_s - *round_.finish_s > options_.round_deadline_s) {
    drop_late(now_s);
  }
}

void Coordinator::finish_round(double now_s) {
  round_.finish_s = now_s;
  enter(now_s, EpochState::up, everybody());
  send_epoch(Finish{round_.id});
}

void Coordinator::on(double now_s, const std::string& name, const Ready& message) {
  MemberInfo& info = members_.at(name);
  heard(now_s, info);
  if (message.version != history_.committed.version || !current(info)) return;
  if (message.round == 0) {
    info.wants_merge = true;
    info.has_work = !message.consumed.empty();
    return;
  }
  const bool asked_for =
      in_epoch(name) && epoch_->state == EpochState::up && round_.finish_s && message.round == round_.id;
  if (!asked_for) return;  // of an epoch given up since: its abort is on the way
  const RangeSet own = history_.ledger.leased(name), consumed(message.consumed);
  const bool holds = std::all_of(message.consumed.begin(), message.consumed.end(), [&own](const auto& range) {
    return own.contains(range.first, range.second);
  });
  if (!holds || message.tokens != consumed.count() * options_.tokens_per_step) {
    log_error("{} reports {} tokens of blocks {}, but holds {}", name, message.tokens, to_string(consumed),
              to_string(own));
    take_back(name, "its account of its work is wrong");
    return;
  }
  // Without its work the member reports again, with no tokens, and the round goes on.
  if (const auto reason =
          delta_fault(message.delta, consumed.count(), history_.step_norms, options_.delta_limit);
      !reason) {
    if (message.tokens > 0) info.refused_in_row = 0;
  } else if (insists(name, message)) {
    log_warning("round {}: the delta of {} is accepted, as it is alone and insists: {}", round_.id, name,
                *reason);
  } else {
    ++info.refused_in_row;
    ++info.refused_deltas;
    ++round_.refused[name];
    log_error("round {}: the delta of {} is refused: {}", round_.id, name, *reason);
    take_back(name, "its delta is refused");
    return;
  }
  epoch_->awaited.erase(name);
  round_.ready[name] = message;
}

// Each refusal puts the site back to the committed model. A lone one whose deltas stay beyond the limit from there has
// other norms for good, by its data or by a change of the schedule, and there is nobody to compare it with: without a
// way back the run would stand still. From then on it is accepted, and the running median follows.
bool Coordinator::insists(const std::string& name, const Ready& message) {
  constexpr std::size_t alone = 2;  // with the vault
  return message.delta.finite && epoch_->members.size() == alone &&
         members_.at(name).refused_in_row >= kInsisting;
}

// Members that are late with their round or with an exchange that others have finished. The vault has no window to
// lose and says nothing on its own: it is only left out for a while.
void Coordinator::drop_late(double now_s) {
  drop(now_s, epoch_->awaited,
       fmt::format("{} did not {} within {}", fmt::join(epoch_->awaited, ", "),
                   epoch_->state == EpochState::up ? "end the round" : "finish the exchange",
                   format_duration(options_.round_deadline_s)));
}

// Sites whose leader is stopped need not be waited for until the deadline. As long as nobody waits for them they lose
// nothing: most go on before their round ends. At a round's end others may still be at their last step, and a merge or a
// sync stands still with the first who is missing. Without the vault nobody can go on: it is waited for.
bool Coordinator::drop_silent(double now_s) {
  std::set<std::string> needed = epoch_->awaited, silent;
  if (epoch_->state == EpochState::syncing) needed.insert(epoch_->sync_root);
  std::copy_if(needed.begin(), needed.end(), std::inserter(silent, silent.end()), [this](const auto& name) {
    return members_.at(name).role == "site" && members_.at(name).silent;
  });
  if (silent.empty() || (epoch_->state == EpochState::up && silent != needed)) return false;
  drop(now_s, silent,
       fmt::format("the leader of {} gives no sign of life: it is stopped", fmt::join(silent, ", ")));
  return true;
}

void Coordinator::drop(double now_s, const std::set<std::string>& members, const std::string& reason) {
  if (members.size() != epoch_->members.size())  // else the others are no better
    for (const auto& name : members) {
      if (members_.at(name).role == "site")
        members_.at(name).lagging = true;
      else
        blame_.add(now_s, name, name);
    }
  fail_epoch(now_s, reason, options_.settle_s);
}

void Coordinator::close_round(double now_s) {
  std::vector<int> working;
  for (std::size_t i = 0; i < epoch_->members.size(); ++i)
    if (round_.ready.at(epoch_->members[i]).tokens > 0) working.push_back(static_cast<int>(i));
  if (!working.empty()) {
    order_exchange(now_s, working);
    return;
  }
  // Nothing to merge: the round goes on, or the epoch ends for a change of members.
  resume_training(Outcome{epoch_->id, round_.id, false});
  if (wanted_members(now_s) != epoch_->members)
    stop_epoch(now_s);
  else
    begin_round(now_s);
}

void Coordinator::order_exchange(double now_s, const std::vector<int>& working) {
  std::int64_t tokens = 0, blocks = 0;
  for (const auto& [name, ready] : round_.ready) {
    tokens += ready.tokens;
    blocks += RangeSet(ready.consumed).count();
  }
  Go& go = round_.go;
  go.epoch = epoch_->id;
  go.round = round_.id;
  go.next = {history_.committed.version + 1, history_.committed.blocks + blocks, ""};
  for (const auto& name : epoch_->members)
    go.weights.push_back(static_cast<double>(round_.ready.at(name).tokens) / static_cast<double>(tokens));
  const double averaged_from = (1 - options_.average_last) * static_cast<double>(history_.ledger.total());
  if (working.size() == 1) {
    go.merge = "adopt";
    go.root = working.front();
    go.reset_velocity = true;
  } else {
    go.wire = options_.wire;
    go.merge = static_cast<double>(go.next.blocks) > averaged_from ? "average" : "nesterov";
    go.reset_velocity = history_.last_merge.empty() || history_.last_merge == "adopt";
  }
  round_.go_s = now_s;
  enter(now_s, EpochState::exchanging, everybody());
  send_epoch(go);
}

void Coordinator::on(double now_s, const std::string& name, const Done& message) {
  heard(now_s, members_.at(name));
  if (!in_epoch(name) || epoch_->state != EpochState::exchanging || message.round != round_.id) return;
  round_.hashes[name] = message.hash;
  round_.exchange_s = std::max(round_.exchange_s, message.seconds);
  if (message.trained_on) round_.trained_on.insert(name);
  answered(name, message.epoch, EpochState::exchanging);
}

void Coordinator::check_hashes(double now_s) {
  std::map<std::string, std::vector<std::string>> by_hash;
  for (const auto& [name, hash] : round_.hashes) by_hash[hash].push_back(name);
  if (by_hash.size() == 1) {
    commit_round(now_s);
    return;
  }
  const auto most = std::max_element(by_hash.begin(), by_hash.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
  std::string text;
  for (const auto& [hash, names] : by_hash) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", fmt::join(names, ", "), hash.substr(0, 12));
    // The odd one out pauses; between two equal parties nobody knows who is wrong.
    if (2 * most->second.size() > round_.hashes.size() && hash != most->first)
      for (const auto& name : names) blame_.add(now_s, name, name);
  }
  log_error("round {}: members disagree about the merged model: {}", round_.id, text);
  constexpr double pause_s = 2;
  fail_epoch(now_s, "the merged models differ (" + text + "): the round is repeated", pause_s);
}

void Coordinator::commit_round(double now_s) {
  CommitEntry entry;
  entry.epoch = epoch_->id;
  entry.round = round_.id;
  entry.model = round_.go.next;
  entry.model.hash = round_.hashes.begin()->second;
  entry.merge = round_.go.merge;
  entry.wire = round_.go.wire;
  entry.members = static_cast<std::int64_t>(epoch_->members.size());
  entry.clock_unix_s = host_.clock_unix_s();
  entry.data = data_of_run();
  entry.timing = {*round_.finish_s - round_.began_s, round_.go_s - *round_.finish_s, now_s - round_.go_s};
  for (const auto& [name, ready] : round_.ready)
    if (ready.tokens > 0) entry.sites[name] = {ready.tokens, ready.consumed, ready.delta.norm, ready.energy};
  // The point of no return: once it is on disk the round is committed, whatever dies next.
  host_.append_journal(to_json(entry));
  history_.commit(entry);
  blame_.forgive(epoch_->members);
  for (const auto& name : epoch_->members) members_.at(name).model = entry.model;
  report_round(now_s, entry);
  resume_training(Commit{entry.epoch, entry.round, entry.model});
  for (const auto& name : round_.trained_on) members_.at(name).has_work = true;
  release_stale();
  if (complete())
    for (const auto& name : epoch_->members)
      if (members_.at(name).role == "site") host_.send(name, Complete{entry.model});
  // Another round first would keep a member that waits to join or leave waiting.
  if (complete() || wanted_members(now_s) != epoch_->members)
    stop_epoch(now_s);
  else
    begin_round(now_s);
}

// Times: train until Finish; wait for the members' last steps; form, for the first round of an epoch; exchange, the
// longest of a member; apply, the rest until all had the result: deltas, outer step, the vault's disk.
void Coordinator::report_round(double now_s, const CommitEntry& entry) {
  const double train_s = *round_.finish_s - round_.began_s, wait_s = round_.go_s - *round_.finish_s;
  const double apply_s = std::max(0.0, now_s - round_.go_s - round_.exchange_s);
  const double form_s = std::exchange(epoch_->form_s, 0);
  const DeltaSummary deltas = summarize_deltas(round_.ready);
  log_info(
      "version {}: {} of {} steps, {} of {}; train {:.1f} s, form {:.2f} s, wait {:.2f} s, exchange {:.2f} "
      "s, "
      "apply {:.2f} s; {}",
      entry.model.version, entry.model.blocks, history_.ledger.total(), entry.merge,
      fmt::join(epoch_->members, ", "), train_s, form_s, wait_s, round_.exchange_s, apply_s, deltas.text);
  nlohmann::json sites = deltas.sites;
  for (const auto& [name, work] : entry.sites) {
    sites[name]["tokens"] = work.tokens;
    const auto& progress = members_.at(name).progress;
    if (progress.is_object() && progress.contains("loss_nats"))
      sites[name]["loss_nats"] = progress["loss_nats"];
  }
  host_.record_round({{"clock_unix_s", entry.clock_unix_s},
                      {"epoch", entry.epoch},
                      {"round", entry.round},
                      {"version", entry.model.version},
                      {"blocks", entry.model.blocks},
                      {"merge", entry.merge},
                      {"train_s", train_s},
                      {"form_s", form_s},
                      {"wait_s", wait_s},
                      {"exchange_s", round_.exchange_s},
                      {"apply_s", apply_s},
                      {"sites", sites},
                      {"refused", round_.refused},
                      {"cosines", deltas.cosines}});
  round_.refused.clear();
}

}  // namespace spillway
