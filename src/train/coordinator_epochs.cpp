// Epochs: whose gateways form one communicator, from the name server's start to the last gateway's end.
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "train/coordinator.hpp"

namespace spillway {
namespace {

constexpr const char* kVault = "vault";
// After a failure without a culprit the probes need time to show who cannot be reached.
constexpr double kProbePause_s = 5;
// Couriers hear of a newcomer, probe it and tell the result within three heartbeats.
constexpr double kFirstProbes_s = 3;

}  // namespace

bool Coordinator::in_epoch(const std::string& name) const {
  return epoch_ && std::find(epoch_->members.begin(), epoch_->members.end(), name) != epoch_->members.end();
}

// A site that closes still gets an epoch for the work that it has reported. Once the run is complete, those who lack
// the last version fetch it.
bool Coordinator::wanted(double now_s, const std::string& name) const {
  const MemberInfo& info = members_.at(name);
  if (info.role != "site" || info.lagging || blame_.blamed(now_s, name, name)) return false;
  return complete() ? info.open && !current(info) : info.open || info.has_work;
}

bool Coordinator::connected_pair(double now_s, const std::string& a, const std::string& b) const {
  if (blame_.blamed(now_s, a, b)) return false;
  // Gateways that have met are connected, whatever a single probe says.
  if (in_epoch(a) && in_epoch(b) && epoch_->state != EpochState::naming &&
      epoch_->state != EpochState::forming)
    return true;
  const auto reaches = [this](const std::string& from, const std::string& to) {
    const auto& reach = members_.at(from).reach;
    const auto probe = reach.find(to);
    return probe != reach.end() && probe->second;
  };
  return reaches(a, b) && reaches(b, a);
}

std::vector<std::string> Coordinator::wanted_members(double now_s) const {
  const auto vault = members_.find(kVault);
  if (vault == members_.end() || blame_.blamed(now_s, kVault, kVault)) return {};
  std::vector<std::string> sites;
  constexpr std::size_t most = kMaxMembers - 1;  // what fits into a message beside the vault
  for (const auto& [name, info] : members_)
    if (sites.size() < most && wanted(now_s, name) && connected_pair(now_s, name, kVault))
      sites.push_back(name);
  std::vector<std::uint64_t> adjacency(sites.size());
  std::uint64_t holders = 0, preferred = 0;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i;
    for (std::size_t j = 0; j < sites.size(); ++j)
      if (i != j && connected_pair(now_s, sites[i], sites[j])) adjacency[i] |= std::uint64_t{1} << j;
    if (current(vault->second) || current(members_.at(sites[i]))) holders |= bit;
    if (in_epoch(sites[i])) preferred |= bit;
  }
  const std::uint64_t group = largest_group(adjacency, holders, preferred);
  if (group == 0) return {};
  std::vector<std::string> members;
  for (std::size_t i = 0; i < sites.size(); ++i)
    if ((group >> i & 1) != 0) members.push_back(sites[i]);
  members.emplace_back(kVault);
  return members;
}

// Reason to end a round early: a change that has settled.
bool Coordinator::membership_changes(double now_s) const {
  return now_s - last_change_s_ >= options_.settle_s && wanted_members(now_s) != epoch_->members;
}

// Somebody has just connected, a site or the vault, and not all have probed each other since. Without the site that is
// left out the epoch's first commit would cost it the work it has, or its first round.
bool Coordinator::newcomer_left_out(double now_s, const std::vector<std::string>& members) const {
  const bool newcomer = std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
    return now_s - member.second.connected_s < kFirstProbes_s;
  });
  return newcomer && std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
           return wanted(now_s, member.first) &&
                  std::find(members.begin(), members.end(), member.first) == members.end();
         });
}

void Coordinator::tick_without_epoch(double now_s) {
  const bool missing =
      !complete() && members_.count(kVault) != 0 && members_.size() > 1 &&
      std::none_of(members_.begin(), members_.end(), [this](const auto& m) { return current(m.second); });
  if (missing && !holder_missing_)
    log_warning("nobody here holds the committed model version {}: waiting for a member that does",
                history_.committed.version);
  holder_missing_ = missing;
  if (now_s - last_change_s_ < options_.settle_s || now_s < not_before_s_ || gathering(now_s)) return;
  const auto members = wanted_members(now_s);
  if (members.empty()) return startable_since_s_.reset();
  if (!startable_since_s_) startable_since_s_ = now_s;
  if (newcomer_left_out(now_s, members) && now_s - *startable_since_s_ < kFirstProbes_s) return;
  startable_since_s_.reset();
  start_epoch(now_s, members);
}

void Coordinator::enter(double now_s, EpochState state, std::set<std::string> awaited) {
  epoch_->state = state;
  epoch_->since_s = now_s;
  epoch_->awaited = std::move(awaited);
}

std::set<std::string> Coordinator::everybody() const {
  return {epoch_->members.begin(), epoch_->members.end()};
}

void Coordinator::answered(const std::string& name, std::int64_t epoch, EpochState state) {
  if (epoch_ && epoch_->id == epoch && epoch_->state == state) epoch_->awaited.erase(name);
}

void Coordinator::send_epoch(const Message& message) {
  for (const auto& name : epoch_->members)
    if (members_.count(name) != 0) host_.send(name, message);
}

void Coordinator::start_epoch(double now_s, const std::vector<std::string>& members) {
  epoch_ = EpochInfo{};
  epoch_->id = next_epoch_++;
  epoch_->members = members;
  enter(now_s, EpochState::naming);
  log_info("epoch {}: forming with {}{}", epoch_->id, fmt::join(members, ", "),
           options_.streams > 1 ? fmt::format(", {} streams", options_.streams) : "");
  host_.start_name_server(epoch_->id);
}

void Coordinator::name_server_ready(double now_s, const std::string& uri) {
  if (!epoch_ || epoch_->state != EpochState::naming) return;
  enter(now_s, EpochState::forming, everybody());
  for (std::size_t i = 0; i < epoch_->members.size(); ++i)
    host_.send(epoch_->members[i],
               Epoch{epoch_->id, uri, epoch_->members, static_cast<int>(i), options_.streams});
}

void Coordinator::name_server_died(double now_s, const std::string& reason) {
  // Once formed, an epoch does not need it any more.
  if (!epoch_ || (epoch_->state != EpochState::naming && epoch_->state != EpochState::forming)) return;
  fail_epoch(now_s, reason, epoch_->state == EpochState::naming ? kProbePause_s : options_.settle_s);
}

void Coordinator::on(double, const std::string& name, const Formed& message) {
  if (in_epoch(name) && epoch_->id == message.epoch) members_.at(name).formed = true;
  answered(name, message.epoch, EpochState::forming);
}

void Coordinator::on(double, const std::string& name, const Stopped& message) {
  answered(name, message.epoch, EpochState::stopping);
}

void Coordinator::on(double now_s, const std::string& name, const Synced& message) {
  MemberInfo& info = members_.at(name);
  heard(now_s, info);
  info.model = message.model;
  if (current(info))
    answered(name, message.epoch, EpochState::syncing);
  else
    log_warning("{} has got model version {}, which is not the committed one", name, message.model.version);
}

void Coordinator::on(double now_s, const std::string& name, const Fail& message) {
  if (!in_epoch(name) || epoch_->id != message.epoch) return;
  if (epoch_->state == EpochState::stopping) return answered(name, message.epoch, EpochState::stopping);
  const bool names_peer = message.peer != name && in_epoch(message.peer);
  blame_.add(now_s, name, names_peer ? message.peer : name);
  fail_epoch(
      now_s,
      fmt::format("{} reports{}: {}", name, names_peer ? " about " + message.peer : "", message.reason),
      options_.settle_s);
}

void Coordinator::stop_epoch(double now_s) {
  log_info("epoch {}: stopping; wanted now: {}", epoch_->id, fmt::join(wanted_members(now_s), ", "));
  enter(now_s, EpochState::stopping, everybody());
  resume_training(Stop{epoch_->id});
}

void Coordinator::end_epoch() {
  host_.stop_name_server();
  epoch_.reset();
  round_ = RoundInfo{};
}

void Coordinator::fail_epoch(double now_s, const std::string& reason, double pause_s) {
  log_warning("epoch {} failed: {}", epoch_->id, reason);
  resume_training(Abort{epoch_->id, reason});
  end_epoch();
  not_before_s_ = now_s + pause_s;
}

// Nobody knows why: suspect sites that have never met the others; else the last one, so that the others can go on.
void Coordinator::blame_formation(double now_s) {
  std::vector<std::string> sites(epoch_->members.begin(), epoch_->members.end() - 1), strangers;
  if (sites.size() < 2) return;
  std::copy_if(sites.begin(), sites.end(), std::back_inserter(strangers),
               [this](const auto& name) { return !members_.at(name).formed; });
  if (strangers.empty() || strangers.size() == sites.size()) strangers = {sites.back()};
  for (const auto& name : strangers) blame_.add(now_s, name, name);
}

bool Coordinator::sync_stale_members(double now_s) {
  Sync sync{epoch_->id, history_.committed, -1, {}};
  std::set<std::string> targets;
  for (std::size_t i = 0; i < epoch_->members.size(); ++i) {
    if (!current(members_.at(epoch_->members[i]))) {
      sync.targets.push_back(static_cast<int>(i));
      targets.insert(epoch_->members[i]);
    } else if (sync.root < 0) {
      sync.root = static_cast<int>(i);
    }
  }
  if (targets.empty()) return false;
  SPILLWAY_CHECK(sync.root >= 0);  // wanted_members() saw to it, and who leaves ends the epoch
  log_info("epoch {}: {} sends model version {} to {}", epoch_->id,
           epoch_->members[static_cast<std::size_t>(sync.root)], sync.model.version,
           fmt::join(targets, ", "));
  enter(now_s, EpochState::syncing, targets);
  epoch_->sync_root = epoch_->members[static_cast<std::size_t>(sync.root)];
  send_epoch(sync);
  return true;
}

void Coordinator::tick_epoch(double now_s) {
  const double age_s = now_s - epoch_->since_s;
  const bool all_answered = epoch_->awaited.empty();
  const auto late = [&] { return fmt::format("{}", fmt::join(epoch_->awaited, ", ")); };
  switch (epoch_->state) {
    case EpochState::naming:
      if (age_s > options_.name_server_deadline_s) fail_epoch(now_s, "no name server", kProbePause_s);
      break;
    case EpochState::forming:
      if (all_answered) {
        log_info("epoch {}: formed in {:.2f} s", epoch_->id, age_s);
        epoch_->form_s = age_s;
        begin_round(now_s);
      } else if (age_s > options_.formation_deadline_s) {
        blame_formation(now_s);
        fail_epoch(
            now_s,
            fmt::format("{} did not form within {}", late(), format_duration(options_.formation_deadline_s)),
            kProbePause_s);
      }
      break;
    case EpochState::syncing:
      if (all_answered) {
        begin_round(now_s);
      } else if (!drop_silent(now_s) && age_s > options_.round_deadline_s) {
        for (const auto& name : epoch_->awaited) blame_.add(now_s, name, name);
        fail_epoch(now_s,
                   fmt::format("the sync of {} took longer than {}", late(),
                               format_duration(options_.round_deadline_s)),
                   kProbePause_s);
      }
      break;
    case EpochState::up:
      tick_up(now_s);
      break;
    case EpochState::exchanging:
      if (all_answered)
        check_hashes(now_s);
      else if (!drop_silent(now_s) && age_s > options_.round_deadline_s)
        drop_late(now_s);
      break;
    case EpochState::stopping:
      if (all_answered || age_s > options_.stop_deadline_s) end_epoch();
      break;
  }
}

}  // namespace spillway
