#include "federation_simulation.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.hpp"
#include "tests/catch.hpp"

namespace spillway::simulation {
namespace {

constexpr double kLostAfter_s = 5;
constexpr double kNever_s = 1e300;
constexpr double kPatience_s = 40;  // of a leader whose window has closed
constexpr std::int64_t kTokensPerStep = 64;

struct HubKilled {};

CoordinatorOptions coordinator_options() {
  CoordinatorOptions options;
  options.run = "run";
  options.tokens_per_step = kTokensPerStep;
  options.round_length_s = 20;
  options.round_deadline_s = 20;
  options.formation_deadline_s = 10;
  return options;
}

std::pair<std::string, std::string> ordered(const std::string& a, const std::string& b) {
  return a < b ? std::pair(a, b) : std::pair(b, a);
}

bool is_commit(const nlohmann::json& entry) { return entry.at("type") == "commit"; }

RangeSet nonzero(std::span<const float> values) {
  RangeSet set;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != 0) set.add(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i) + 1);
  return set;
}

}  // namespace

// --- Node ---

Node::Node(World& world, std::string name, std::string role)
    : world_(world), name_(std::move(name)), role_(std::move(role)) {
  lose_disk();
}

void Node::lose_disk() {
  const auto size = static_cast<std::size_t>(world_.options_.steps);
  disk_ = Disk{{}, std::vector<float>(size), std::vector<float>(size), std::vector<float>(size), {}};
  candidate_.reset();
}

void Node::start() {
  if (running()) return;
  ++life_;
  open_ = true;
  inbox_.clear();
  background_.reset();
  order_.reset();
  hello_.reset();
  courier_hello_.reset();
  gateway_ = 0;
  training_ = false;
  paused_until_s_ = leaving_since_s_ = 0;
  local_ = disk_.local;
  contribution_.assign(local_.size(), 0.0f);
  velocity_ = feedback_ = contribution_;
  MemberOptions options;
  options.tokens_per_step = kTokensPerStep;
  options.lease_steps = 8;
  options.round_steps = 30;
  options.overlap = world_.options_.overlap && role_ == "site";
  member_ = std::make_unique<Member>(MemberIdentity{name_, role_, "run", data_}, options,
                                     MemberState{disk_.model, disk_.base, disk_.velocity, disk_.consumed},
                                     static_cast<MemberHost&>(*this));
  if (candidate_)
    member_->remember_candidate({candidate_->model, candidate_->base, candidate_->velocity, {}});
  member_->announce(true);
  connect();
}

void Node::save() {
  const MemberState& state = member_->state();
  disk_ = Disk{state.model, state.base, state.velocity, local_, state.consumed};
}

void Node::close_window() { open_ = false; }

void Node::kill() {
  if (!running()) return;
  ++life_;
  member_.reset();
  if (gateway_ != 0) world_.gateway_ended(std::exchange(gateway_, 0), name_, false);
  const auto connection = std::exchange(connection_, 0);
  if (connection != 0)
    world_.member_to_hub(connection, [this, connection] { world_.hub_loses(connection, "closed"); });
}

void Node::kill_leader() {
  if (!running()) return;
  if (gateway_ != 0) to_hub(Fail{gateway_, "leader ended", name_});
  to_hub(Bye{"leader ended"});
  kill();
}

void Node::kill_gateway() {
  if (gateway_ != 0) fail_gateway("gateway ended with status 137", "");
}

void Node::fail_gateway(const std::string& reason, const std::string& peer) {
  const std::int64_t epoch = std::exchange(gateway_, 0);
  order_.reset();
  world_.gateway_ended(epoch, name_, false);
  to_hub(Fail{epoch, reason, peer});
}

void Node::pause(double seconds) {
  stopped_since_s_ = world_.now_s_;
  paused_until_s_ = world_.now_s_ + seconds;
}

void Node::hang(double seconds) {
  stopped_since_s_ = kNever_s;
  paused_until_s_ = world_.now_s_ + seconds;
}

bool Node::silent() const {
  return world_.now_s_ < paused_until_s_ && world_.now_s_ - stopped_since_s_ > kLostAfter_s;
}

void Node::cut(double seconds) {
  cut_until_s_ = world_.now_s_ + seconds;
  const auto connection = connection_;
  if (connection == 0) return;
  world_.connections_.at(connection).broken = true;
  world_.after(world_.uniform(0.5, kLostAfter_s), [this, connection] {
    if (connection_ == connection) lose_hub("silent");
  });
  world_.after(world_.uniform(0.5, kLostAfter_s),
               [this, connection] { world_.hub_loses(connection, "silent"); });
}

void Node::lose_hub(const std::string& reason) {
  connection_ = 0;
  if (gateway_ != 0) world_.gateway_ended(std::exchange(gateway_, 0), name_, false);  // fencing
  order_.reset();
  if (!running()) return;
  deliver(HubLost{reason});
  courier_hello_.reset();
  retry();
}

void Node::retry() {
  const auto life = life_;
  world_.after(world_.uniform(0.2, 3), [this, life] {
    if (life == life_ && running()) connect();
  });
}

void Node::connect() {
  if (connection_ != 0) return;
  if (!courier_hello_ || !world_.hub_alive() || world_.now_s_ < cut_until_s_) return retry();
  connection_ = ++world_.last_connection_;
  world_.connections_[connection_] = {name_, world_.hub_life_};
  deliver(HubConnected{});
  Hello hello = *courier_hello_;
  hello.probe = name_ + ":1";
  to_hub(hello);
}

void Node::to_hub(const Message& message) {
  if (connection_ == 0) return;
  decode(encode(message));  // the real ones pass through these
  const auto connection = connection_;
  world_.member_to_hub(connection, [this, connection, message] { world_.hub_receives(connection, message); });
}

// Leader to courier.
void Node::send(const Message& message) {
  if (const auto* hello = std::get_if<Hello>(&message)) {
    hello_ = courier_hello_ = *hello;
  } else if (const auto* prepared = std::get_if<Prepared>(&message)) {
    if (order_ && gateway_ == prepared->epoch) world_.prepared(gateway_, *this);
  } else {
    to_hub(message);
  }
}

void Node::add_to_parameters(std::span<const float> difference) {
  for (std::size_t i = 0; i < local_.size(); ++i) local_[i] += difference[i];
}

// What a thread does beside training can come before all that happens meanwhile, or after it.
void Node::run(const std::function<void()>& work, const std::function<void()>& done) {
  if (world_.options_.background_s <= 0 || role_ != "site") {
    work();
    return done();
  }
  REQUIRE_FALSE(background_);
  const bool first = world_.pick(2) == 0;
  if (first) work();
  background_ = Background{first ? std::function<void()>() : work, done,
                           world_.now_s_ + world_.uniform(0, world_.options_.background_s)};
}

bool Node::background_done() {
  if (!background_) return true;
  if (world_.now_s_ < background_->until_s) return false;
  const Background ended = *std::exchange(background_, std::nullopt);
  if (ended.work) ended.work();
  ended.done();
  return !background_;
}

void Node::candidate_ready(const MemberState& candidate) {
  if (role_ == "vault") candidate_ = Disk{candidate.model, candidate.base, candidate.velocity, {}, {}};
}

void Node::model_committed(const MemberState& state, const std::string&) {
  if (role_ == "vault") {
    disk_ = Disk{state.model, state.base, state.velocity, state.base, {}};
    candidate_.reset();
  }
  // What counts: the parameters hold exactly the blocks of which the journal says so.
  const auto commits = world_.commits();
  REQUIRE(state.model.version <= static_cast<std::int64_t>(commits.size()));
  RangeSet blocks;
  for (std::int64_t version = 1; version <= state.model.version; ++version) {
    const auto commit = commit_entry(commits[static_cast<std::size_t>(version - 1)]);
    for (const auto& [site, work] : commit.sites)
      for (const auto& [first, end] : work.blocks) blocks.add(first, end);
    if (version == state.model.version) REQUIRE(commit.model.hash == state.model.hash);
  }
  INFO(name_ << ", version " << state.model.version);
  REQUIRE(to_string(nonzero(state.base)) == to_string(blocks));
}

void Node::from_hub(const Message& message) {
  if (!running()) return;
  if (const auto* epoch = std::get_if<Epoch>(&message)) {
    if (gateway_ != 0) world_.gateway_ended(gateway_, name_, false);
    order_.reset();
    gateway_ = epoch->epoch;
    world_.join_gateway(*epoch, *this);
  } else if (const auto* sync = std::get_if<Sync>(&message)) {
    const auto& members = world_.communicators_.at(sync->epoch).members;
    const auto own = static_cast<int>(std::find(members.begin(), members.end(), name_) - members.begin());
    const bool target = std::find(sync->targets.begin(), sync->targets.end(), own) != sync->targets.end();
    if (gateway_ != sync->epoch || (sync->root != own && !target)) return;
    order_ = message;
  } else if (const auto* go = std::get_if<Go>(&message)) {
    if (gateway_ != go->epoch) return;
    order_ = message;
  } else if (const auto* stop = std::get_if<Stop>(&message)) {
    order_.reset();
    if (gateway_ == stop->epoch) world_.gateway_ended(std::exchange(gateway_, 0), name_, true);
    to_hub(Stopped{stop->epoch});
  } else if (const auto* abort = std::get_if<Abort>(&message)) {
    if (gateway_ == abort->epoch) {
      order_.reset();
      world_.gateway_ended(std::exchange(gateway_, 0), name_, false);
    }
  } else if (std::holds_alternative<HubHeartbeat>(message)) {
    return;
  } else if (const auto* refuse = std::get_if<Refuse>(&message)) {
    if (!refusal_expected_) FAIL(name_ << " was refused: " << refuse->reason);
    refused_ = *refuse;
    return kill();
  }
  deliver(message);
}

void Node::deliver(const Message& message) { inbox_.push_back(message); }

// One turn of the leader's loop.
void Node::run_leader() {
  if (!running() || world_.now_s_ < paused_until_s_ || world_.now_s_ < training_until_s_) return;
  if (training_) {
    local_[static_cast<std::size_t>(member_->next_block())] =
        std::exchange(poison_, std::nullopt).value_or(trained_value_);
    member_->block_done();
    ++trained_;
    training_ = false;
    if (role_ == "site" && world_.pick(8) == 0) save();  // a checkpoint now and then
  }
  while (background_done() && !inbox_.empty()) {
    const Message message = std::move(inbox_.front());
    inbox_.pop_front();
    member_->handle(message);
    if (std::holds_alternative<HubLost>(message)) courier_hello_ = hello_;  // as Federation does
  }
  if (member_->complete() && member_->state().consumed.empty()) {
    if (role_ == "site") end_process(false);
    return;
  }
  if (!open_ && leaving_since_s_ == 0) {
    leaving_since_s_ = world_.now_s_;
    member_->leave("the window is closed");
  }
  if (leaving_since_s_ > 0) {
    if (member_->left()) return end_process(true);
    if (world_.now_s_ - leaving_since_s_ > kPatience_s) return end_process(false);
  }
  member_->advance();
  if (!member_->may_train()) return;
  training_ = true;
  progress_.push_back({member_->schedule_step(), world_.trained_blocks()});
  training_until_s_ = world_.now_s_ + slowness_ * world_.options_.step_s * world_.uniform(0.8, 1.2);
}

void Node::end_process(bool said_bye) {
  if (role_ == "site") save();
  if (!said_bye) to_hub(Bye{"leader ended"});
  kill();
}

std::string Node::describe() const {
  if (!running()) return name_ + ": not running, version " + std::to_string(disk_.model.version);
  return fmt::format(
      "{}: version {}, {} blocks consumed, connection {}, gateway {}, may train {}, open {}, leaving {}",
      name_, member_->state().model.version, count_blocks(member_->state().consumed), connection_, gateway_,
      member_->may_train(), open_, leaving_since_s_ > 0);
}

// --- World ---

World::World(Options options) : options_(options), random_(options.seed) { tick(); }

Node& World::add(const std::string& name, const std::string& role) {
  return *(nodes_[name] = std::make_unique<Node>(*this, name, role));
}

void World::at(double at_s, std::function<void()> what) { events_.push({at_s, ++order_, std::move(what)}); }

void World::run(double seconds) {
  run_until([] { return false; }, seconds);
}

bool World::run_until(const std::function<bool()>& condition, double limit_s) {
  const double end_s = now_s_ + limit_s;
  while (!condition()) {
    if (events_.top().at_s > end_s) {
      now_s_ = end_s;
      return false;
    }
    const Event event = events_.top();
    events_.pop();
    now_s_ = event.at_s;
    event.what();
  }
  return true;
}

void World::tick() {
  with_hub([this](Coordinator& hub) { hub.tick(now_s_); });
  for (auto& [name, node] : nodes_) node->run_leader();
  // Couriers' heartbeats.
  if (static_cast<std::int64_t>(now_s_ * 20) % 20 == 0)
    for (auto& [name, node] : nodes_) {
      if (node->connection_ == 0) continue;
      MemberHeartbeat heartbeat;
      heartbeat.silent = node->silent();
      for (const auto& [other, other_node] : nodes_)
        if (other != name) heartbeat.reach[other] = other_node->running() && !blocked(name, other);
      node->to_hub(heartbeat);
    }
  after(0.05, [this] { tick(); });
}

void World::start_hub() {
  RunHistory history(options_.steps);
  for (const auto& entry : journal_) history.apply(entry);
  const ClockSpec clock = history.first_start ? history.first_start->clock : ClockSpec{0, now_s_, 60};
  CoordinatorOptions options = coordinator_options();
  coordinator_ = std::make_unique<Coordinator>(options, history, clock, static_cast<CoordinatorHost&>(*this));
  journal_.push_back(to_json(StartEntry{options.run, options_.steps, options.tokens_per_step, clock}));
  ++hub_life_;
}

void World::kill_hub() {
  coordinator_.reset();
  hub_side_.clear();
  at_journal_ = AtJournal::live;
  for (auto& [name, node] : nodes_) {
    const auto connection = node->connection_;
    if (connection == 0) continue;
    const double arrival_s = std::max(now_s_, connections_.at(connection).last_to_member_s) + 0.001;
    at(arrival_s, [this, name = name, connection] {
      Node& lost = *nodes_.at(name);
      if (lost.connection_ == connection) lost.lose_hub("closed");
    });
  }
}

void World::with_hub(const std::function<void(Coordinator&)>& what) {
  if (!coordinator_) return;
  try {
    what(*coordinator_);
  } catch (const HubKilled&) {
    kill_hub();
  }
}

void World::member_to_hub(std::uint64_t id, std::function<void()> arrival) {
  Connection& connection = connections_.at(id);
  connection.last_to_hub_s =
      std::max(connection.last_to_hub_s, now_s_ + uniform(0.1, 1) * options_.latency_s);
  at(connection.last_to_hub_s, std::move(arrival));
}

void World::hub_receives(std::uint64_t id, const Message& message) {
  Connection& connection = connections_.at(id);
  if (connection.broken || connection.hub_closed || connection.hub_life != hub_life_ || !coordinator_) return;
  const std::string& name = connection.member;
  const auto* hello = std::get_if<Hello>(&message);
  if (hello == nullptr) {
    with_hub([&](Coordinator& hub) { hub.received(now_s_, name, message); });
    if (const auto own = hub_side_.find(name);
        std::holds_alternative<Bye>(message) && own != hub_side_.end() && own->second == id)
      hub_side_.erase(own);
    return;
  }
  // As HubServer does: the same courier's new connection replaces the old one.
  if (const auto old = hub_side_.find(name); old != hub_side_.end()) hub_loses(old->second, "connected anew");
  hub_side_[name] = id;
  with_hub([&](Coordinator& hub) {
    if (const auto refuse = hub.connected(now_s_, *hello)) send(name, *refuse);
  });
}

void World::hub_loses(std::uint64_t id, const std::string& reason) {
  Connection& connection = connections_.at(id);
  if (connection.hub_closed || connection.hub_life != hub_life_) return;
  connection.hub_closed = true;
  if (hub_side_.count(connection.member) == 0 || hub_side_[connection.member] != id) return;
  hub_side_.erase(connection.member);
  with_hub([&](Coordinator& hub) { hub.disconnected(now_s_, connection.member, reason); });
}

void World::send(const std::string& member, const Message& message) {
  const auto found = hub_side_.find(member);
  REQUIRE(found != hub_side_.end());
  const auto id = found->second;
  decode(encode(message));
  Connection& connection = connections_.at(id);
  connection.last_to_member_s =
      std::max(connection.last_to_member_s, now_s_ + uniform(0.1, 1) * options_.latency_s);
  at(connection.last_to_member_s, [this, id, message] {
    const Connection& arriving = connections_.at(id);
    Node& node = *nodes_.at(arriving.member);
    if (!arriving.broken && node.connection_ == id) node.from_hub(message);
  });
}

void World::start_name_server(std::int64_t) {
  const auto life = hub_life_;
  const bool dies = std::exchange(name_server_dies_, false);
  after(uniform(0.05, 0.3), [this, life, dies] {
    if (life != hub_life_) return;
    with_hub([&](Coordinator& hub) {
      if (dies)
        hub.name_server_died(now_s_, "ompi-server ended with status 137");
      else
        hub.name_server_ready(now_s_, "uri");
    });
  });
}

void World::append_journal(const nlohmann::json& entry) {
  if (at_journal_ == AtJournal::die_before) throw HubKilled{};
  journal_.push_back(entry);
  if (at_journal_ == AtJournal::die_after) throw HubKilled{};
}

bool World::blocked(const std::string& a, const std::string& b) const {
  return blocked_.count(ordered(a, b)) != 0;
}

bool World::any_blocked(const std::vector<std::string>& members) const {
  for (const auto& a : members)
    for (const auto& b : members)
      if (a < b && blocked(a, b)) return true;
  return false;
}

void World::block_path(const std::string& a, const std::string& b, bool block) {
  if (!block) {
    blocked_.erase(ordered(a, b));
    return;
  }
  blocked_.insert(ordered(a, b));
  // The gateways of an epoch that has both notice the silence.
  for (const auto& [first, second] : {std::pair(a, b), std::pair(b, a)}) {
    const std::int64_t epoch = nodes_.at(first)->gateway_;
    if (epoch == 0 || communicators_.at(epoch).alive.count(second) == 0) continue;
    after(uniform(5, 10), [this, epoch, first = first, second = second] {
      Node& node = *nodes_.at(first);
      if (node.gateway_ == epoch && blocked(first, second)) node.fail_gateway("no sign of life", second);
    });
  }
}

void World::join_gateway(const Epoch& epoch, Node& node) {
  Communicator& communicator = communicators_[epoch.epoch];
  communicator.members = epoch.members;
  communicator.alive.insert(node.name_);
  if (communicator.alive.size() < epoch.members.size()) return;
  after(uniform(0.1, 0.5), [this, id = epoch.epoch] {
    const Communicator& formed = communicators_.at(id);
    if (formed.alive.size() < formed.members.size() || any_blocked(formed.members)) return;
    for (const auto& name : formed.members) nodes_.at(name)->to_hub(Formed{id, 0.2});
  });
}

void World::gateway_ended(std::int64_t epoch, const std::string& member, bool planned) {
  Communicator& communicator = communicators_.at(epoch);
  communicator.alive.erase(member);
  if (planned) return;
  for (const auto& name : communicator.alive)
    after(uniform(0.2, 3), [this, epoch, name, member] {
      Node& node = *nodes_.at(name);
      if (node.gateway_ == epoch) node.fail_gateway("connection reset", member);
    });
}

void World::prepared(std::int64_t epoch, Node& node) {
  Communicator& communicator = communicators_.at(epoch);
  communicator.prepared.insert(node.name_);
  const auto* sync = std::get_if<Sync>(&*node.order_);
  const std::size_t expected = sync ? sync->targets.size() + 1 : communicator.members.size();
  if (communicator.prepared.size() < expected) return;
  communicator.prepared.clear();
  after(uniform(0.1, 0.6), [this, epoch, order = *node.order_] { exchange(epoch, order); });
}

void World::exchange(std::int64_t epoch, const Message& order) {
  const Communicator& communicator = communicators_.at(epoch);
  if (communicator.alive.size() < communicator.members.size() || any_blocked(communicator.members)) return;
  const auto node_of = [&](int rank) -> Node& {
    return *nodes_.at(communicator.members[static_cast<std::size_t>(rank)]);
  };
  const auto* sync = std::get_if<Sync>(&order);
  const auto* go = std::get_if<Go>(&order);
  const Node& root = node_of(sync ? sync->root : go->root);
  std::vector<float> result = root.contribution_;
  if (go && go->merge != "adopt")
    for (std::size_t i = 0; i < result.size(); ++i) {
      double sum = 0;
      for (std::size_t rank = 0; rank < go->weights.size(); ++rank)
        sum += go->weights[rank] * static_cast<double>(node_of(static_cast<int>(rank)).contribution_[i]);
      result[i] = static_cast<float>(sum);
    }
  std::vector<int> receivers;
  if (sync) receivers = sync->targets;
  for (int rank = 0; go && rank < static_cast<int>(communicator.members.size()); ++rank)
    receivers.push_back(rank);
  for (const int rank : receivers) {
    Node& node = node_of(rank);
    auto own = result;
    if (go && node.name_ == corrupt_) {
      own.back() += 0.5f;
      corrupt_.clear();
    }
    after(uniform(0, options_.exchange_s), [this, epoch, &node, order, own, velocity = root.velocity_] {
      if (node.gateway_ != epoch || !node.order_) return;
      node.order_.reset();
      node.contribution_ = own;
      if (const auto* synced = std::get_if<Sync>(&order)) {
        node.velocity_ = velocity;
        node.deliver(Received{epoch, synced->model});
      } else {
        node.deliver(Exchanged{epoch, std::get<Go>(order).round, 0.1});
      }
    });
  }
}

std::vector<nlohmann::json> World::commits() const {
  std::vector<nlohmann::json> commits;
  std::copy_if(journal_.begin(), journal_.end(), std::back_inserter(commits), is_commit);
  return commits;
}

std::int64_t World::version() const { return std::count_if(journal_.begin(), journal_.end(), is_commit); }

std::int64_t World::trained_blocks() const {
  std::int64_t count = 0;
  for (const auto& [name, node] : nodes_) count += node->trained();
  return count;
}

std::int64_t World::committed_blocks() const {
  const auto last = std::find_if(journal_.rbegin(), journal_.rend(), is_commit);
  return last == journal_.rend() ? 0 : commit_entry(*last).model.blocks;
}

std::string World::epoch_state() {
  if (!coordinator_) return "no hub";
  const auto epoch = coordinator_->snapshot(now_s_).at("epoch");
  return epoch.is_null() ? "none" : epoch.at("state").get<std::string>();
}

std::vector<std::string> World::epoch_members() {
  if (!coordinator_) return {};
  const auto epoch = coordinator_->snapshot(now_s_).at("epoch");
  return epoch.is_null() ? std::vector<std::string>() : epoch.at("members").get<std::vector<std::string>>();
}

std::string World::describe() {
  std::string text =
      fmt::format("t {:.2f} s, version {}, {} of {} blocks, epoch {} with {}\n", now_s_, version(),
                  committed_blocks(), options_.steps, epoch_state(), fmt::join(epoch_members(), ", "));
  for (const auto& [name, node] : nodes_) text += "  " + node->describe() + "\n";
  if (coordinator_) text += coordinator_->snapshot(now_s_).dump();
  return text;
}

}  // namespace spillway::simulation
