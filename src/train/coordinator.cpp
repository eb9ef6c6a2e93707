// Members: how they come and go, and the blocks they hold.
#include "train/coordinator.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr const char* kVault = "vault";
constexpr double kHeartbeat_s = 1;
// Epoch and round numbers of one start of the hub; the next start takes the next range, so that none repeats.
constexpr std::int64_t kNumbersPerStart = 10'000'000;

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, RunHistory history, ClockSpec clock,
                         CoordinatorHost& host)
    : options_(std::move(options)), history_(std::move(history)), clock_(clock), host_(host) {
  SPILLWAY_CHECK(options_.tokens_per_step > 0);
  next_epoch_ = next_round_ = history_.starts * kNumbersPerStart + 1;
  missed_ = history_.last_sites;
}

bool Coordinator::current(const MemberInfo& info) const {
  return info.model.version == history_.committed.version && info.model.hash == history_.committed.hash;
}

std::optional<Refuse> Coordinator::reason_to_refuse(const Hello& hello) const {
  const auto usage = static_cast<int>(ExitCode::usage), bad_data = static_cast<int>(ExitCode::bad_data);
  const CommittedModel& committed = history_.committed;
  if (hello.protocol != kProtocolVersion)
    return Refuse{usage, fmt::format("it speaks protocol {}, this hub {}: use one version of spillway "
                                     "everywhere",
                                     hello.protocol, kProtocolVersion)};
  if ((hello.role == kVault) != (hello.member == kVault))
    return Refuse{usage, "the name 'vault' is the hub's own: choose another site.name"};
  if (hello.run != options_.run)
    return Refuse{
        usage,
        "its configuration is of another run: [model], [data], [train] and [optim] must be the same "
        "at all sites"};
  if (!hello.data.empty() && !data_of_run().empty() && hello.data != data_of_run())
    return Refuse{bad_data,
                  fmt::format("its data.dir holds other tokens (digest {}) than the run's ({}): copy "
                              "the folder from a site of this run",
                              hello.data, data_of_run())};
  if (members_.count(hello.member) != 0)
    return Refuse{usage, fmt::format("a member of the name '{}' is connected already: site names must differ",
                                     hello.member)};
  if (hello.model.version > committed.version)
    return Refuse{bad_data,
                  fmt::format("it holds model version {}, the hub's journal ends at {}: the journal was "
                              "replaced, or one of them belongs to another run",
                              hello.model.version, committed.version)};
  if (hello.model.version == committed.version && hello.model.hash != committed.hash)
    return Refuse{
        bad_data,
        fmt::format("it holds model version {} with hash '{}', the run's has '{}': its run.dir belongs "
                    "to another run",
                    hello.model.version, hello.model.hash, committed.hash)};
  return std::nullopt;
}

// The hub's own data decides, else what has been merged, else the first site.
const std::string& Coordinator::data_of_run() const {
  if (!options_.data.empty()) return options_.data;
  return history_.data.empty() ? first_data_ : history_.data;
}

std::optional<Refuse> Coordinator::connected(double now_s, const Hello& hello) {
  if (const auto refuse = reason_to_refuse(hello)) {
    log_warning("refused {}: {}", hello.member, refuse->reason);
    return refuse;
  }
  // Their constructor refuses what is not a set of blocks; before anything has changed.
  for (const auto& blocks : {hello.consumed, hello.pending, hello.leased}) RangeSet{blocks};
  if (first_data_.empty()) first_data_ = hello.data;
  MemberInfo info;
  info.role = hello.role;
  info.probe = hello.probe;
  info.open = hello.open || hello.role == kVault;
  info.model = hello.model;
  info.connected_s = now_s;
  members_[hello.member] = info;
  blame_.forget(hello.member);
  missed_.erase(hello.member);
  if (hello.role == "site" && !gather_until_s_) gather_until_s_ = now_s + options_.lost_lease_s;
  last_change_s_ = now_s;
  last_heartbeat_s_ = -1e300;  // tell everybody whom to probe
  log_info("{} connected{}, holding model version {}", hello.member, info.open ? "" : ", closed",
           hello.model.version);
  welcome(hello.member, hello);
  return std::nullopt;
}

void Coordinator::welcome(const std::string& name, const Hello& hello) {
  MemberInfo& info = members_.at(name);
  RangeSet consumed(hello.consumed);
  if (hello.doubt_round != 0) {
    const bool was_committed = history_.rounds.count({hello.doubt_epoch, hello.doubt_round}) != 0;
    host_.send(name, Outcome{hello.doubt_epoch, hello.doubt_round, was_committed});
    if (was_committed) {  // the member now adopts what it had computed: the version after its own
      info.model.version += 1;
      for (const auto& [first, end] : hello.pending) consumed.remove(first, end);
      if (info.model.version == history_.committed.version) info.model = history_.committed;
    }
  }
  // What it held before it was lost is its own again, if nobody else has got it since.
  lost_since_s_.erase(name);
  history_.ledger.release_all(name);
  const bool keep = current(info) && history_.ledger.adopt(name, consumed) &&
                    history_.ledger.adopt(name, RangeSet(hello.leased));
  if (!keep) history_.ledger.release_all(name);
  host_.send(name, Welcome{clock_, history_.committed, complete(), keep});
}

void Coordinator::received(double now_s, const std::string& name, const Message& message) {
  if (members_.count(name) == 0) return;
  std::visit(
      [&](const auto& typed) {
        if constexpr (requires { this->on(now_s, name, typed); })
          this->on(now_s, name, typed);
        else
          log_warning("{} sent a message that is not for a hub: ignored", name);
      },
      message);
}

// A sign of life of the leader itself; heartbeats come from its courier.
void Coordinator::heard(double now_s, MemberInfo& info) {
  if (!info.lagging) return;
  info.lagging = false;
  last_change_s_ = now_s;
}

void Coordinator::on(double now_s, const std::string& name, const WindowChange& message) {
  MemberInfo& info = members_.at(name);
  heard(now_s, info);
  if (info.role == kVault || info.open == message.open) return;
  info.open = message.open;
  last_change_s_ = now_s;
  log_info("{}: its window {}", name, message.open ? "is open" : "closes");
}

void Coordinator::on(double now_s, const std::string& name, const MemberHeartbeat& message) {
  MemberInfo& info = members_.at(name);
  if (info.silent && !message.silent) heard(now_s, info);
  info.silent = message.silent;
  info.reach = message.reach;
  if (!message.progress.is_null()) info.progress = message.progress;
}

void Coordinator::on(double now_s, const std::string& name, const LeaseRequest& message) {
  MemberInfo& info = members_.at(name);
  heard(now_s, info);
  info.wants_blocks = std::min(message.blocks, options_.longest_lease);
  info.told_empty = false;
}

// All sites train on while the hub is away. If the first one back began alone, its commit would make the others' work
// stale; if it leased, it would get the blocks that they have trained on.
bool Coordinator::gathering(double now_s) const {
  return gather_until_s_ && now_s < *gather_until_s_ && !missed_.empty();
}

// Outside an epoch that is up, work would be lost with the epoch's next commit.
bool Coordinator::may_lease(double now_s, const std::string& name) const {
  const MemberInfo& info = members_.at(name);
  const bool settled = history_.starts == 0 || (lease_from_s_ && now_s >= *lease_from_s_);
  return settled && !gathering(now_s) && info.role == "site" && info.open && !info.lagging && current(info) &&
         (!epoch_ || in_epoch(name));
}

void Coordinator::serve_leases(double now_s) {
  for (auto& [name, info] : members_) {
    if (info.wants_blocks <= 0 || !may_lease(now_s, name)) continue;
    const RangeSet blocks = history_.ledger.lease(name, info.wants_blocks);
    // An empty answer ends the member's round; what returns to the pool later it gets without asking again.
    if (!blocks.empty())
      info.wants_blocks = 0;
    else if (std::exchange(info.told_empty, true))
      continue;
    host_.send(name, Lease{blocks.ranges()});
  }
}

void Coordinator::take_back(const std::string& name, const std::string& reason) {
  MemberInfo& info = members_.at(name);
  const RangeSet blocks = history_.ledger.leased(name);
  if (!blocks.empty()) log_warning("blocks {} of {} return to the pool: {}", to_string(blocks), name, reason);
  history_.ledger.release_all(name);
  info.wants_blocks = 0;
  info.wants_merge = info.has_work = false;
  host_.send(name, Welcome{clock_, history_.committed, complete(), false});
}

// A version was committed: what was trained on older ones cannot be merged any more.
void Coordinator::release_stale() {
  for (const auto& [name, info] : members_)
    if (info.role == "site" && !current(info)) take_back(name, "it was not in the epoch that has committed");
  for (const auto& [name, since_s] : lost_since_s_) history_.ledger.release_all(name);
  lost_since_s_.clear();
  missed_.clear();
}

void Coordinator::release_lost(double now_s) {
  std::erase_if(lost_since_s_, [&](const auto& lost) {
    if (now_s - lost.second < options_.lost_lease_s) return false;
    const RangeSet blocks = history_.ledger.leased(lost.first);
    if (!blocks.empty())
      log_info("blocks {} of {} return to the pool: it has not come back", to_string(blocks), lost.first);
    history_.ledger.release_all(lost.first);
    return true;
  });
}

// Without this a member that answers but cannot join would keep the last blocks of the run for ever.
void Coordinator::release_outsiders(double now_s) {
  if (!epoch_ || epoch_->state == EpochState::naming || epoch_->state == EpochState::forming) return;
  for (auto& [name, info] : members_) {
    if (in_epoch(name))
      info.outside_since_s.reset();
    else if (!info.outside_since_s)
      info.outside_since_s = now_s;
    else if (now_s - *info.outside_since_s > options_.round_deadline_s &&
             !history_.ledger.leased(name).empty())
      take_back(name, "it has been out of the federation for too long");
  }
}

void Coordinator::on(double now_s, const std::string& name, const Bye& message) {
  log_info("{} left: {}", name, message.reason);
  history_.ledger.release_all(name);
  member_gone(now_s, name, "left");
}

void Coordinator::disconnected(double now_s, const std::string& name, const std::string& reason) {
  if (members_.count(name) == 0) return;
  log_warning("{} lost: {}", name, reason);
  lost_since_s_[name] = now_s;
  if (const MemberInfo& info = members_.at(name); info.role == "site" && current(info)) missed_.insert(name);
  member_gone(now_s, name, "was lost (" + reason + ")");
}

void Coordinator::member_gone(double now_s, const std::string& name, const std::string& reason) {
  members_.erase(name);
  if (std::none_of(members_.begin(), members_.end(), [](const auto& m) { return m.second.role == "site"; }))
    gather_until_s_.reset();
  last_change_s_ = now_s;
  if (!in_epoch(name)) return;
  if (epoch_->state == EpochState::stopping)
    epoch_->awaited.erase(name);
  else
    fail_epoch(now_s, name + " " + reason, options_.settle_s);
}

void Coordinator::heartbeats(double now_s) {
  if (now_s - last_heartbeat_s_ < kHeartbeat_s) return;
  last_heartbeat_s_ = now_s;
  for (const auto& [name, info] : members_) {
    HubHeartbeat heartbeat{clock_, {}};
    for (const auto& [other, other_info] : members_)
      if (other != name && !other_info.probe.empty()) heartbeat.peers[other] = other_info.probe;
    host_.send(name, heartbeat);
  }
}

void Coordinator::tick(double now_s) {
  if (!lease_from_s_) lease_from_s_ = now_s + options_.lost_lease_s;
  heartbeats(now_s);
  release_lost(now_s);
  release_outsiders(now_s);
  if (epoch_)
    tick_epoch(now_s);
  else
    tick_without_epoch(now_s);
  serve_leases(now_s);
}

bool Coordinator::everybody_gone() const {
  return complete() && std::none_of(members_.begin(), members_.end(),
                                    [](const auto& member) { return member.second.role == "site"; });
}

void Coordinator::farewell() {
  if (!complete()) return;
  for (const auto& [name, info] : members_) host_.send(name, Complete{history_.committed});
}

nlohmann::json Coordinator::snapshot(double now_s) const {
  static constexpr const char* states[] = {"naming", "forming", "up", "syncing", "exchanging", "stopping"};
  nlohmann::json members = nlohmann::json::object();
  for (const auto& [name, info] : members_)
    members[name] = {{"role", info.role},
                     {"open", info.open},
                     {"lagging", info.lagging},
                     {"silent", info.silent},
                     {"version", info.model.version},
                     {"leased_blocks", history_.ledger.leased(name).count()},
                     {"in_epoch", in_epoch(name)},
                     {"refused_deltas", info.refused_deltas},
                     {"progress", info.progress}};
  nlohmann::json document = {
      {"clock_unix_s", host_.clock_unix_s()},
      {"clock",
       {{"start_unix_s", clock_.start_unix_s},
        {"origin_unix_s", clock_.origin_unix_s},
        {"speed", clock_.speed}}},
      {"version", history_.committed.version},
      {"hash", history_.committed.hash},
      {"blocks", history_.committed.blocks},
      {"target", history_.ledger.total()},
      {"complete", complete()},
      {"rounds", {{"solo", history_.rounds_solo}, {"federated", history_.rounds_federated}}},
      {"free_blocks", history_.ledger.available()},
      {"members", members},
      {"epoch", nullptr}};
  if (epoch_)
    document["epoch"] = {{"id", epoch_->id},
                         {"state", states[static_cast<int>(epoch_->state)]},
                         {"members", epoch_->members},
                         {"state_age_s", now_s - epoch_->since_s}};
  return document;
}

}  // namespace spillway
