#include "train/coordinator.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

constexpr const char* kVault = "vault";
// Two members that cannot reach each other are kept apart this long, unless their probes say otherwise before.
constexpr double kBadPair_s = 20;
constexpr double kHeartbeat_s = 1;
// Epoch and round numbers of one start of the hub; the next start takes the next range, so that none repeats.
constexpr std::int64_t kNumbersPerStart = 1'000'000;

std::pair<std::string, std::string> pair_of(const std::string& a, const std::string& b) {
  return a < b ? std::pair(a, b) : std::pair(b, a);
}

std::string names(const std::vector<std::string>& members) {
  return fmt::format("{}", fmt::join(members, ", "));
}

}  // namespace

void CoordinatorHistory::apply(const nlohmann::json& entry) {
  try {
    const auto type = entry.at("type").get<std::string>();
    if (type == "start") {
      ++starts;
      return;
    }
    if (type != "commit") fail(ExitCode::bad_data, "unknown journal entry '{}'", type);
    CommittedModel next;
    next.version = entry.at("version").get<std::int64_t>();
    next.blocks = entry.at("blocks").get<std::int64_t>();
    next.hash = entry.at("hash").get<std::string>();
    if (next.version != committed.version + 1)
      fail(ExitCode::bad_data, "version {} follows version {}", next.version, committed.version);
    for (const auto& [member, work] : entry.at("members").items()) {
      const RangeSet blocks(work.at("blocks").get<RangeSet::Ranges>());
      if (!ledger.adopt(member, blocks))
        fail(ExitCode::bad_data, "version {}: blocks {} of {} were committed before", next.version,
             to_string(blocks), member);
      ledger.commit(member, blocks);
    }
    if (ledger.committed() != next.blocks)
      fail(ExitCode::bad_data, "version {} claims {} blocks, its journal adds up to {}", next.version,
           next.blocks, ledger.committed());
    committed = next;
    rounds.emplace(entry.at("epoch").get<std::int64_t>(), entry.at("round").get<std::int64_t>());
    ++(entry.at("merge").get<std::string>() == "adopt" ? rounds_solo : rounds_federated);
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "journal entry {}: {}", entry.dump(), error.what());
  }
}

Coordinator::Coordinator(CoordinatorOptions options, CoordinatorHistory history, ClockSpec clock,
                         CoordinatorHost& host)
    : options_(std::move(options)), history_(std::move(history)), clock_(clock), host_(host) {
  next_epoch_ = next_round_ = history_.starts * kNumbersPerStart + 1;
}

std::optional<std::string> Coordinator::reason_to_refuse(const Hello& hello) const {
  if (hello.protocol != kProtocolVersion)
    return fmt::format("it speaks protocol {}, this hub {}: use one version of spillway everywhere",
                       hello.protocol, kProtocolVersion);
  if (hello.role == "site" && hello.member == kVault)
    return "the name 'vault' is the hub's own: choose another site.name";
  if (hello.run != options_.run)
    return "its configuration is of another run: [model], [data], [train] and [optim] must be the same at "
           "all sites";
  if (members_.count(hello.member) != 0)
    return "a member of the name '" + hello.member + "' is connected already: site names must differ";
  return std::nullopt;
}

std::optional<Refuse> Coordinator::connected(double now_s, const Hello& hello) {
  if (const auto reason = reason_to_refuse(hello)) {
    log_warning("refused {}: {}", hello.member, *reason);
    return Refuse{static_cast<int>(ExitCode::usage), *reason};
  }
  MemberInfo& info = members_[hello.member];
  info.role = hello.role;
  info.probe = hello.probe;
  info.open = hello.open || hello.role == kVault;
  last_change_s_ = now_s;
  log_info("{} connected{}, holding model version {}", hello.member, info.open ? "" : ", closed",
           hello.model.version);
  welcome(hello.member, hello);
  return std::nullopt;
}

void Coordinator::welcome(const std::string& name, const Hello& hello) {
  MemberInfo& info = members_[name];
  info.model = hello.model;
  RangeSet consumed(hello.consumed);
  const RangeSet leased(hello.leased);
  if (hello.doubt_round != 0) {
    const bool was_committed = history_.rounds.count({hello.doubt_epoch, hello.doubt_round}) != 0;
    host_.send(name, Outcome{hello.doubt_epoch, hello.doubt_round, was_committed});
    if (was_committed) {  // the member now adopts what it had computed: the version after its own
      info.model.version += 1;
      consumed = RangeSet();
      if (info.model.version == history_.committed.version) info.model = history_.committed;
    }
  }
  // What it held before it was lost is its own again, if nobody else has got it since.
  lost_since_s_.erase(name);
  history_.ledger.release_all(name);
  const bool current = info.model.version == history_.committed.version;
  bool keep = current && history_.ledger.adopt(name, consumed) && history_.ledger.adopt(name, leased);
  if (!keep) history_.ledger.release_all(name);
  host_.send(name, Welcome{clock_, history_.committed, complete(), keep});
}

void Coordinator::received(double now_s, const std::string& name, const Message& message) {
  const auto found = members_.find(name);
  if (found == members_.end()) return;
  MemberInfo& info = found->second;
  const auto of_this_epoch = [&](std::int64_t epoch) {
    return epoch_ && epoch_->id == epoch && in_epoch(name);
  };
  if (const auto* window = std::get_if<WindowChange>(&message)) {
    if (info.open != window->open) last_change_s_ = now_s;
    info.open = window->open;
    log_info("{}: window {}", name, window->open ? "open" : "closes");
  } else if (const auto* request = std::get_if<LeaseRequest>(&message)) {
    answer_lease(name, *request);
  } else if (const auto* heartbeat = std::get_if<MemberHeartbeat>(&message)) {
    info.reach = heartbeat->reach;
    if (!heartbeat->progress.is_null()) info.progress = heartbeat->progress;
  } else if (const auto* ready = std::get_if<Ready>(&message)) {
    on_ready(now_s, name, *ready);
  } else if (const auto* done = std::get_if<Done>(&message)) {
    if (of_this_epoch(done->epoch)) on_done(now_s, name, *done);
  } else if (const auto* formed = std::get_if<Formed>(&message)) {
    if (of_this_epoch(formed->epoch) && epoch_->state == EpochState::forming) epoch_->answered.insert(name);
  } else if (const auto* synced = std::get_if<Synced>(&message)) {
    info.model = synced->model;
    if (of_this_epoch(synced->epoch) && epoch_->state == EpochState::syncing) epoch_->answered.insert(name);
  } else if (const auto* failed = std::get_if<Fail>(&message)) {
    if (!of_this_epoch(failed->epoch)) return;
    if (!failed->peer.empty()) bad_pairs_[pair_of(name, failed->peer)] = now_s + kBadPair_s;
    fail_epoch(now_s, name + " reports: " + failed->reason, options_.settle_s);
  } else if (const auto* stopped = std::get_if<Stopped>(&message)) {
    if (of_this_epoch(stopped->epoch) && epoch_->state == EpochState::stopping) epoch_->answered.insert(name);
  } else if (const auto* bye = std::get_if<Bye>(&message)) {
    leave(now_s, name, bye->reason);
  } else if (const auto* hello = std::get_if<Hello>(&message)) {
    // A courier repeats its leader's hello after the leader was restarted behind it.
    welcome(name, *hello);
    info.open = hello->open || info.role == kVault;
    last_change_s_ = now_s;
  }
}

void Coordinator::answer_lease(const std::string& name, const LeaseRequest& request) {
  const auto most = std::min(request.blocks, options_.longest_lease);
  host_.send(name, Lease{history_.ledger.lease(name, most).ranges()});
}

void Coordinator::leave(double now_s, const std::string& name, const std::string& reason) {
  log_info("{} left: {}", name, reason);
  history_.ledger.release_all(name);
  members_.erase(name);
  last_change_s_ = now_s;
  if (in_epoch(name) && epoch_->state != EpochState::stopping)
    fail_epoch(now_s, name + " left", options_.settle_s);
}

void Coordinator::disconnected(double now_s, const std::string& name, const std::string& reason) {
  if (members_.erase(name) == 0) return;
  log_warning("{} lost: {}", name, reason);
  lost_since_s_[name] = now_s;
  last_change_s_ = now_s;
  if (in_epoch(name) && epoch_->state != EpochState::stopping)
    fail_epoch(now_s, name + " was lost (" + reason + ")", options_.settle_s);
}

void Coordinator::name_server_died(double now_s) {
  // Once formed, an epoch does not need it any more.
  if (epoch_ && epoch_->state == EpochState::forming)
    fail_epoch(now_s, "the name server died", options_.settle_s);
}

bool Coordinator::reachable(const std::vector<std::string>& members) const {
  for (const auto& a : members)
    for (const auto& b : members) {
      if (a == b) continue;
      const auto& reach = members_.at(a).reach;
      const auto probe = reach.find(b);
      if (probe != reach.end() && !probe->second) return false;
      if (bad_pairs_.count(pair_of(a, b)) != 0) return false;
    }
  return true;
}

std::vector<std::string> Coordinator::wanted_members() const {
  std::vector<std::string> sites;
  for (const auto& [name, info] : members_)
    if (info.role == "site" && info.open && !info.lagging) sites.push_back(name);
  if (sites.empty() || members_.count(kVault) == 0 || complete()) return {};
  // The largest set whose members all reach each other and the vault. At most a few sites: try all sets.
  constexpr std::size_t most_sites = 16;
  if (sites.size() > most_sites) sites.resize(most_sites);
  std::vector<std::string> best;
  for (unsigned set = 1; set < (1u << sites.size()); ++set) {
    if (static_cast<std::size_t>(std::popcount(set)) + 1 <= best.size()) continue;
    std::vector<std::string> members;
    for (std::size_t i = 0; i < sites.size(); ++i)
      if ((set >> i & 1u) != 0) members.push_back(sites[i]);
    members.emplace_back(kVault);
    if (reachable(members)) best = std::move(members);
  }
  return best;
}

bool Coordinator::in_epoch(const std::string& name) const {
  return epoch_ && std::find(epoch_->members.begin(), epoch_->members.end(), name) != epoch_->members.end();
}

void Coordinator::send_all(const Message& message) {
  for (const auto& name : epoch_->members)
    if (members_.count(name) != 0) host_.send(name, message);
}

void Coordinator::start_epoch(double now_s, const std::vector<std::string>& members) {
  const std::int64_t id = next_epoch_++;
  const std::string uri = host_.start_name_server(id);
  if (uri.empty()) {
    not_before_s_ = now_s + 2;
    return;
  }
  epoch_ = EpochInfo{};
  epoch_->id = id;
  epoch_->members = members;
  epoch_->since_s = now_s;
  log_info("epoch {}: forming with {}", id, names(members));
  for (std::size_t i = 0; i < members.size(); ++i)
    host_.send(members[i], Epoch{id, uri, members, static_cast<int>(i)});
}

void Coordinator::stop_epoch(double now_s) {
  log_info("epoch {}: stopping, members become {}", epoch_->id, names(wanted_members()));
  epoch_->state = EpochState::stopping;
  epoch_->since_s = now_s;
  epoch_->answered.clear();
  send_all(Stop{epoch_->id});
}

void Coordinator::end_epoch(double now_s) {
  host_.stop_name_server();
  epoch_.reset();
  round_ = RoundInfo{};
  not_before_s_ = std::max(not_before_s_, now_s);
}

void Coordinator::fail_epoch(double now_s, const std::string& reason, double pause_s) {
  if (!epoch_) return;
  log_warning("epoch {} failed: {}", epoch_->id, reason);
  send_all(Abort{epoch_->id, reason});
  end_epoch(now_s);
  not_before_s_ = now_s + pause_s;
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
  heartbeats(now_s);
  std::erase_if(bad_pairs_, [now_s](const auto& entry) { return entry.second < now_s; });
  for (auto lost = lost_since_s_.begin(); lost != lost_since_s_.end();) {
    if (now_s - lost->second < options_.lost_lease_s) {
      ++lost;
      continue;
    }
    const RangeSet blocks = history_.ledger.leased(lost->first);
    if (!blocks.empty()) log_info("blocks {} of {} return to the pool", to_string(blocks), lost->first);
    history_.ledger.release_all(lost->first);
    lost = lost_since_s_.erase(lost);
  }
  if (epoch_) {
    tick_epoch(now_s);
  } else if (now_s - last_change_s_ >= options_.settle_s && now_s >= not_before_s_) {
    const auto wanted = wanted_members();
    if (!wanted.empty()) start_epoch(now_s, wanted);
  }
}

void Coordinator::tick_epoch(double now_s) {
  const double age_s = now_s - epoch_->since_s;
  // After a failure without a culprit the probes need time to show who cannot be reached.
  constexpr double probe_pause_s = 5;
  switch (epoch_->state) {
    case EpochState::forming:
      if (all_answered()) {
        log_info("epoch {}: formed in {:.2f} s", epoch_->id, age_s);
        begin_round(now_s);
      } else if (age_s > options_.formation_deadline_s) {
        fail_epoch(now_s, "not formed within " + format_duration(options_.formation_deadline_s),
                   probe_pause_s);
      }
      break;
    case EpochState::syncing:
      if (epoch_->answered.size() == epoch_->hashes.size())
        begin_round(now_s);
      else if (age_s > options_.round_deadline_s)
        fail_epoch(now_s, "a sync took longer than " + format_duration(options_.round_deadline_s),
                   probe_pause_s);
      break;
    case EpochState::up:
      tick_up(now_s);
      break;
    case EpochState::exchanging:
      if (age_s > options_.round_deadline_s)
        fail_epoch(now_s, "an exchange took longer than " + format_duration(options_.round_deadline_s),
                   probe_pause_s);
      break;
    case EpochState::stopping:
      if (all_answered() || age_s > options_.stop_deadline_s) end_epoch(now_s);
      break;
  }
}

nlohmann::json Coordinator::snapshot(double now_s) const {
  static constexpr const char* kStates[] = {"forming", "up", "syncing", "exchanging", "stopping"};
  nlohmann::json members = nlohmann::json::object();
  for (const auto& [name, info] : members_)
    members[name] = {{"role", info.role},
                     {"open", info.open},
                     {"version", info.model.version},
                     {"in_epoch", in_epoch(name)},
                     {"progress", info.progress}};
  nlohmann::json document = {
      {"clock_unix_s", clock_.now_unix_s()},
      {"clock",
       {{"start_unix_s", clock_.start_unix_s},
        {"origin_unix_s", clock_.origin_unix_s},
        {"speed", clock_.speed}}},
      {"version", history_.committed.version},
      {"hash", history_.committed.hash},
      {"blocks", history_.committed.blocks},
      {"target", options_.steps},
      {"complete", complete()},
      {"rounds", {{"solo", history_.rounds_solo}, {"federated", history_.rounds_federated}}},
      {"free_blocks", history_.ledger.available()},
      {"members", members},
      {"epoch", nullptr}};
  if (epoch_)
    document["epoch"] = {{"id", epoch_->id},
                         {"state", kStates[static_cast<int>(epoch_->state)]},
                         {"members", epoch_->members},
                         {"state_age_s", now_s - epoch_->since_s}};
  return document;
}

}  // namespace spillway
