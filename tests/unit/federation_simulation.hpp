// A federation on a simulated network: the real Coordinator and real Members; couriers, gateways, links, processes and
// time are simulated. Faults are injected by the tests.
//
// The model has one parameter per block of data, 0 at first; training on block b makes it 1 locally. The outer steps
// keep what is not 0 so: the parameters of a committed version say which blocks are really in it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "train/coordinator.hpp"
#include "train/member.hpp"

namespace spillway::simulation {

struct Options {
  std::int64_t steps = 200;
  std::uint64_t seed = 1;
  double step_s = 0.5;      // of training on one block
  double latency_s = 0.05;  // most, one way
  bool overlap = false;     // sites train on while a round is merged
  double exchange_s = 0.1;  // most
  double background_s = 0;  // most, of what a site with overlap does beside training
};

class World;

// A site or the vault: leader, courier and at most one gateway, and the disk that outlives them.
class Node final : private MemberHost {
 public:
  Node(World& world, std::string name, std::string role);

  void start();         // nothing if it runs
  void close_window();  // planned leave
  void kill();          // all processes at once
  void kill_leader();   // the courier says goodbye for it
  void kill_gateway();
  void pause(double seconds);  // SIGSTOP of the leader: its courier sees it
  void hang(double seconds);   // the leader does nothing, but its process shows life
  void cut(double seconds);    // the connection to the hub is gone for so long
  void lose_disk();
  void poison_next_block(float value) { poison_ = value; }  // its training goes wrong, once
  void train_to(float value) { trained_value_ = value; }    // from now on, instead of to 1
  void set_data(const std::string& digest) { data_ = digest; }
  void train_slowly(double factor) { slowness_ = factor; }  // times Options::step_s for a block
  // Why the hub has refused it; nothing where it has not. Without expect_refusal() that fails the test.
  void expect_refusal() { refusal_expected_ = true; }
  const std::optional<Refuse>& refused() const { return refused_; }

  bool running() const { return member_ != nullptr; }
  bool open() const { return open_; }
  std::int64_t trained() const { return trained_; }  // blocks, whatever became of them
  // For each block, in order: the step that its schedules read, and the blocks that all sites had trained by then.
  struct Progress {
    std::int64_t schedule_step, trained_by_all;
  };
  const std::vector<Progress>& progress() const { return progress_; }
  const std::string& name() const { return name_; }
  const Member& member() const { return *member_; }
  std::int64_t version() const { return member_ ? member_->state().model.version : disk_.model.version; }
  std::string describe() const;

 private:
  friend class World;
  struct Disk {
    CommittedModel model;
    std::vector<float> base, velocity, local;
    BlockRanges consumed;
  };

  // MemberHost
  void send(const Message& message) override;
  std::span<float> contribution() override { return contribution_; }
  std::span<float> mailbox_velocity() override { return velocity_; }
  std::span<float> mailbox_feedback() override { return feedback_; }
  void read_parameters(std::span<float> to) override { std::copy(local_.begin(), local_.end(), to.begin()); }
  void write_parameters(std::span<const float> from) override { local_.assign(from.begin(), from.end()); }
  void add_to_parameters(std::span<const float> difference) override;
  void run(const std::function<void()>& work, const std::function<void()>& done) override;
  void candidate_ready(const MemberState& candidate) override;
  void model_committed(const MemberState& state, const std::string& how) override;

  void run_leader();
  bool background_done();
  void end_process(bool said_bye);
  void save();
  void deliver(const Message& message);  // from courier to leader
  void from_hub(const Message& message);
  void connect();
  void retry();
  void lose_hub(const std::string& reason);
  void to_hub(const Message& message);
  void fail_gateway(const std::string& reason, const std::string& peer);

  World& world_;
  std::string name_, role_;
  std::unique_ptr<Member> member_;
  std::uint64_t life_ = 0;  // counts processes
  std::deque<Message> inbox_;
  std::vector<float> local_, contribution_, velocity_, feedback_;
  Disk disk_;
  std::optional<Disk> candidate_;
  struct Background {
    std::function<void()> work, done;  // work: null where it was done at once
    double until_s;
  };
  std::optional<Background> background_;
  std::optional<Hello> hello_, courier_hello_;  // the leader's newest; the one the courier may say
  std::uint64_t connection_ = 0;                // 0: none
  std::int64_t gateway_ = 0;                    // epoch; 0: none
  std::optional<Message> order_;                // Go or Sync
  bool silent() const;                          // as its courier sees the paused leader
  double stopped_since_s_ = 0, paused_until_s_ = 0, cut_until_s_ = 0, training_until_s_ = 0,
         leaving_since_s_ = 0;
  bool training_ = false, open_ = false;
  std::int64_t trained_ = 0;
  double slowness_ = 1;
  std::vector<Progress> progress_;
  std::optional<float> poison_;
  float trained_value_ = 1;
  std::string data_ = "data";
  bool refusal_expected_ = false;
  std::optional<Refuse> refused_;
};

class World final : private CoordinatorHost {
 public:
  explicit World(Options options);

  Node& add(const std::string& name, const std::string& role = "site");
  Node& node(const std::string& name) { return *nodes_.at(name); }
  std::map<std::string, std::unique_ptr<Node>>& nodes() { return nodes_; }

  void run(double seconds);
  // Runs until the condition holds; false after `limit_s`.
  bool run_until(const std::function<bool()>& condition, double limit_s);

  void start_hub();
  void kill_hub();
  enum class AtJournal { live, die_before, die_after };
  void at_next_commit(AtJournal what) {
    at_journal_ = what;
  }                                                      // the hub dies before or after the journal line
  void kill_name_server() { name_server_dies_ = true; }  // of the next epoch
  void block_path(const std::string& a, const std::string& b, bool blocked);
  void corrupt_next_exchange(const std::string& member) { corrupt_ = member; }

  bool hub_alive() const { return coordinator_ != nullptr; }
  Coordinator& hub() { return *coordinator_; }
  bool complete() const { return committed_blocks() == options_.steps; }
  std::int64_t version() const;
  std::int64_t committed_blocks() const;
  std::int64_t trained_blocks() const;  // by all sites, whatever became of them
  std::string epoch_state();            // "none", "forming", …
  std::vector<std::string> epoch_members();
  const std::vector<nlohmann::json>& journal() const { return journal_; }
  std::vector<nlohmann::json> commits() const;
  const std::vector<nlohmann::json>& rounds() const { return rounds_; }  // as recorded for display
  std::string describe();
  double now_s() const { return now_s_; }
  double uniform(double low, double high) { return std::uniform_real_distribution<>(low, high)(random_); }
  std::int64_t pick(std::int64_t count) {
    return std::uniform_int_distribution<std::int64_t>(0, count - 1)(random_);
  }

 private:
  friend class Node;
  struct Event {
    double at_s;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {  // the earliest is the queue's top
      return at_s != other.at_s ? at_s > other.at_s : order > other.order;
    }
  };
  struct Connection {
    std::string member;
    std::uint64_t hub_life = 0;
    bool broken = false;  // nothing arrives any more, nobody knows yet
    bool hub_closed = false;
    double last_to_hub_s = 0, last_to_member_s = 0;
  };
  struct Communicator {  // of one epoch's gateways
    std::vector<std::string> members;
    std::set<std::string> alive, prepared;
  };

  // CoordinatorHost
  void send(const std::string& member, const Message& message) override;
  void start_name_server(std::int64_t epoch) override;
  void stop_name_server() override {}
  void append_journal(const nlohmann::json& entry) override;
  void record_round(const nlohmann::json& round) override { rounds_.push_back(round); }
  double clock_unix_s() const override { return now_s_; }

  void at(double at_s, std::function<void()> what);
  void after(double seconds, std::function<void()> what) { at(now_s_ + seconds, std::move(what)); }
  void with_hub(const std::function<void(Coordinator&)>& what);
  void hub_receives(std::uint64_t connection, const Message& message);
  void hub_loses(std::uint64_t connection, const std::string& reason);
  void member_to_hub(std::uint64_t connection, std::function<void()> arrival);
  void join_gateway(const Epoch& epoch, Node& node);
  void gateway_ended(std::int64_t epoch, const std::string& member, bool planned);
  void prepared(std::int64_t epoch, Node& node);
  void exchange(std::int64_t epoch, const Message& order);
  bool blocked(const std::string& a, const std::string& b) const;
  bool any_blocked(const std::vector<std::string>& members) const;
  void tick();

  Options options_;
  std::mt19937_64 random_;
  double now_s_ = 1000;
  std::uint64_t order_ = 0, hub_life_ = 0, last_connection_ = 0;
  std::priority_queue<Event> events_;
  std::map<std::string, std::unique_ptr<Node>> nodes_;
  std::map<std::uint64_t, Connection> connections_;
  std::map<std::string, std::uint64_t> hub_side_;  // member → connection, as the hub knows
  std::map<std::int64_t, Communicator> communicators_;
  std::set<std::pair<std::string, std::string>> blocked_;
  std::vector<nlohmann::json> journal_, rounds_;
  std::unique_ptr<Coordinator> coordinator_;
  AtJournal at_journal_ = AtJournal::live;
  bool name_server_dies_ = false;
  std::string corrupt_;
};

}  // namespace spillway::simulation
