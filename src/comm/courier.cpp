#include "comm/courier.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <random>
#include <vector>

#include "comm/gateways.hpp"
#include "comm/life_watch.hpp"
#include "comm/line_socket.hpp"
#include "comm/mailbox.hpp"
#include "comm/prober.hpp"
#include "comm/protocol.hpp"
#include "comm/session_directory.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr int kTick_ms = 50;
constexpr double kFirstBackoff_s = 0.2, kLastBackoff_s = 5;
constexpr double kStopGrace_s = 3;  // for gateways' planned end
constexpr double kFarewell_s = 1;   // to get the last lines out

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

class Courier {
 public:
  Courier(const FederationConfig& config, const std::string& site)
      : config_(config),
        site_(site),
        hub_endpoint_(parse_endpoint("--federation.hub", config.hub)),
        key_(read_key(config.key_file)),
        mailbox_(Mailbox::attach(Descriptor(kMailboxDescriptor))),
        leader_(Descriptor(kControlDescriptor)),
        leader_life_(config.lost_after_s),
        prober_(interface_address(config.interface), port_slots(config)) {}

  void run() {
    while (!done_) {
      wait();
      read_leader();
      if (done_) break;
      watch_leader();
      keep_hub();
      read_hub();
      read_gateways();
      prober_.step();
    }
    gateways_.reset();
    flush(hub_);
  }

 private:
  void wait() {
    std::vector<pollfd> entries;
    for (const LineSocket* socket : {&leader_, &hub_})
      if (socket->open()) entries.push_back({socket->descriptor(), socket->events(), 0});
    if (gateways_) gateways_->collect(entries);
    prober_.collect(entries);
    poll(entries.data(), entries.size(), kTick_ms);
  }

  static void flush(LineSocket& socket) {
    const double end_s = monotonic_s() + kFarewell_s;
    while (socket.open() && !socket.flushed() && monotonic_s() < end_s) {
      pollfd entry = {socket.descriptor(), socket.events(), 0};
      poll(&entry, 1, 10);
      socket.on_ready();
    }
  }

  void to_leader(const Message& message) { leader_.send(encode(message)); }
  void to_hub(const Message& message) {
    if (greeted_) hub_.send(encode(message));
  }

  // --- Leader ---

  void read_leader() {
    leader_.on_ready();
    while (const auto line = leader_.next_line()) from_leader(decode(*line), *line);
    if (leader_.open()) return;
    // Tell the hub first: it can end the round while the gateways are being killed.
    if (!leaving_) {
      log_warning("the leader has ended without saying goodbye");
      if (gateways_) to_hub(Fail{gateways_->epoch(), "leader ended", site_});
      to_hub(Bye{"leader ended"});
    }
    done_ = true;
  }

  // A process that is stopped says nothing and does not end. The hub decides what that means for the round.
  void watch_leader() {
    leader_life_.look(monotonic_s(), mailbox_.beats());
    if (leader_life_.silent() == silent_) return;
    silent_ = !silent_;
    if (silent_)
      log_warning("the leader's process gives no sign of life for {} s: is it stopped?",
                  config_.lost_after_s);
    else
      log_info("the leader's process runs again");
    beat_s_ = 0;  // at once
  }

  void from_leader(const Message& message, const std::string& line) {
    std::visit(
        Overloaded{[&](const Hello& m) {
                     hello_ = m;
                     refused_ = false;
                   },
                   [&](const MemberHeartbeat& m) { progress_ = m.progress; },
                   [&](const Prepared& m) { start_exchange(m); },
                   [&](const Bye&) {
                     leaving_ = true;
                     relay_to_hub(line);
                   },
                   [&](const WindowChange&) { relay_to_hub(line); },
                   [&](const LeaseRequest&) { relay_to_hub(line); },
                   [&](const Ready&) { relay_to_hub(line); }, [&](const Synced&) { relay_to_hub(line); },
                   [&](const Done&) { relay_to_hub(line); }, [&](const Fail&) { relay_to_hub(line); },
                   [&](const auto&) { log_error("not a message for the courier: {}", line.substr(0, 80)); }},
        message);
  }

  // What the leader says while the hub is away is dropped: it says hello again once the hub is back.
  void relay_to_hub(const std::string& line) {
    if (greeted_) hub_.send(line);
  }

  // --- Hub ---

  void keep_hub() {
    const double now_s = monotonic_s();
    if (hub_.closed()) {
      if (hello_ && !refused_ && !leaving_ && now_s >= next_attempt_s_) connect();
      return;
    }
    hub_.on_ready();
    if (hub_.connecting()) {
      if (now_s - heard_s_ > config_.lost_after_s) hub_.close("timed out");
    } else if (hub_.open() && !greeted_) {
      greet();
    } else if (now_s - heard_s_ > config_.lost_after_s) {
      hub_.close(fmt::format("silent for {} s", config_.lost_after_s));
    } else if (now_s - beat_s_ >= config_.heartbeat_s) {
      beat_s_ = now_s;
      to_hub(MemberHeartbeat{prober_.reach(), progress_, silent_});
    }
  }

  void connect() {
    heard_s_ = monotonic_s();
    hub_ = LineSocket::connect(hub_endpoint_, config_.lost_after_s);
    hub_.authenticate(key_, Seal::Side::member);
    if (hub_.closed()) lose_hub();
  }

  void greet() {
    greeted_ = true;
    reported_lost_ = false;
    heard_s_ = monotonic_s();
    Hello hello = *hello_;
    hello.probe = prober_.endpoint();
    to_hub(hello);
    to_leader(HubConnected{});
    log_info("connected to the hub at {}", config_.hub);
  }

  void read_hub() {
    try {
      while (const auto line = hub_.next_line()) {
        heard_s_ = monotonic_s();
        backoff_s_ = kFirstBackoff_s;
        from_hub(decode(*line), *line);
      }
    } catch (const Error& error) {
      hub_.close(error.what());
    }
    if (hub_.closed() && (greeted_ || heard_s_ > 0)) lose_hub();
  }

  void lose_hub() {
    drop_gateways();  // before the leader hears of it and writes to the mailbox again
    const std::string reason = fmt::format("hub {}: {}", config_.hub, hub_.reason());
    hub_ = LineSocket();  // with whatever it had said and nobody has read
    // The leader may not have read all that came before: its hello must be younger, or it names blocks wrongly.
    if (greeted_) hello_.reset();
    if (greeted_ || !reported_lost_) {
      to_leader(HubLost{reason});
      log_warning("{}", reason);
      reported_lost_ = true;
    }
    greeted_ = false;
    heard_s_ = 0;
    prober_.set_peers({});
    std::uniform_real_distribution<double> jitter(0.75, 1.25);  // sites must not come back in step
    next_attempt_s_ = monotonic_s() + backoff_s_ * jitter(random_);
    backoff_s_ = std::min(2 * backoff_s_, kLastBackoff_s);
  }

  void from_hub(const Message& message, const std::string& line) {
    std::visit(
        Overloaded{[&](const Welcome&) { leader_.send(line); }, [&](const Lease&) { leader_.send(line); },
                   [&](const Finish&) { leader_.send(line); }, [&](const Commit&) { leader_.send(line); },
                   [&](const Outcome&) { leader_.send(line); }, [&](const Complete&) { leader_.send(line); },
                   [&](const HubHeartbeat& m) { prober_.set_peers(m.peers); },
                   [&](const Refuse&) {
                     refused_ = true;
                     leader_.send(line);
                   },
                   [&](const Epoch& m) {
                     start_gateways(m);
                     leader_.send(line);
                   },
                   [&](const Sync& m) {
                     if (!current(m.epoch) || !takes_part(m)) return;
                     order_ = message;
                     leader_.send(line);
                   },
                   [&](const Go& m) {
                     if (!current(m.epoch)) return;
                     order_ = message;
                     leader_.send(line);
                   },
                   [&](const Stop& m) {
                     stop_gateways(m);
                     leader_.send(line);
                   },
                   [&](const Abort& m) {
                     if (current(m.epoch)) drop_gateways();
                     leader_.send(line);
                   },
                   [&](const auto&) { fail(ExitCode::bad_data, "not a message for a member"); }},
        message);
  }

  // --- Gateways ---

  bool current(std::int64_t epoch) const { return gateways_ && gateways_->epoch() == epoch; }

  bool takes_part(const Sync& sync) const {
    return sync.root == index_ ||
           std::find(sync.targets.begin(), sync.targets.end(), index_) != sync.targets.end();
  }

  void start_gateways(const Epoch& epoch) {
    drop_gateways();
    index_ = epoch.index;
    try {
      gateways_.emplace(config_, prober_.slot(), epoch, directory_.path(), mailbox_.descriptor());
    } catch (const Error& error) {
      log_error("{}", error.what());
      to_hub(Fail{epoch.epoch, printable(error.what()), site_});
    }
  }

  void drop_gateways() {
    gateways_.reset();
    order_.reset();
    stopping_until_s_ = 0;
  }

  void stop_gateways(const Stop& stop) {
    if (!current(stop.epoch)) return to_hub(Stopped{stop.epoch});
    order_.reset();
    stopping_until_s_ = monotonic_s() + kStopGrace_s;
    gateways_->send(stop);
  }

  // The leader has filled the mailbox for the order that it was told of.
  void start_exchange(const Prepared& prepared) {
    if (!order_ || !current(prepared.epoch)) return;  // of an epoch that has ended since
    const auto* go = std::get_if<Go>(&*order_);
    if (prepared.round != (go ? go->round : 0)) return;
    gateways_->send(*order_);
  }

  void read_gateways() {
    while (gateways_) {
      const auto message = gateways_->next();
      if (!message) break;
      from_gateways(*message);
    }
    if (!gateways_) return;
    if (stopping_until_s_ == 0) {
      if (const auto failure = gateways_->failure()) end_in_failure(*failure);
    } else if (gateways_->ended() || monotonic_s() > stopping_until_s_) {
      const std::int64_t epoch = gateways_->epoch();
      drop_gateways();
      to_hub(Stopped{epoch});
    }
  }

  void from_gateways(const Message& message) {
    if (const auto* formed = std::get_if<Formed>(&message)) {
      log_info("epoch {} formed in {:.2f} s", formed->epoch, formed->seconds);
      to_hub(*formed);
    } else if (const auto* exchanged = std::get_if<Exchanged>(&message)) {
      end_exchange(*exchanged);
    } else {
      end_in_failure(std::get<Fail>(message));
    }
  }

  void end_in_failure(const Fail& failure) {
    const std::string last_words = printable(gateways_->last_words());
    log_warning("epoch {}: {}{}{}", failure.epoch, failure.reason,
                last_words.empty() ? "" : "; it printed: ", last_words);
    drop_gateways();
    to_hub(failure);
  }

  void end_exchange(const Exchanged& exchanged) {
    if (!order_) return;  // the epoch is being stopped
    const Message order = *std::exchange(order_, std::nullopt);
    if (const auto* sync = std::get_if<Sync>(&order)) {
      if (sync->root != index_) to_leader(Received{sync->epoch, sync->model});
    } else {
      to_leader(exchanged);
    }
  }

  static std::string printable(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
    return text.substr(0, 1000);
  }

  const FederationConfig config_;
  const std::string site_;
  const Endpoint hub_endpoint_;
  const SharedKey key_;
  SessionDirectory directory_;
  const Mailbox mailbox_;
  LineSocket leader_, hub_;
  LifeWatch leader_life_;
  bool silent_ = false;  // as it has been told
  Prober prober_;
  std::optional<Gateways> gateways_;
  int index_ = 0;                 // of this member in the gateways' epoch
  std::optional<Message> order_;  // Go or Sync, from the hub, not yet exchanged
  double stopping_until_s_ = 0;   // the gateways were told to stop; 0: they were not
  std::optional<Hello> hello_;    // to be said on the next connection
  nlohmann::json progress_ = nullptr;
  bool greeted_ = false;  // connected, hello said
  bool refused_ = false;  // by the hub; until the leader says hello anew
  bool reported_lost_ = false;
  bool leaving_ = false, done_ = false;
  double heard_s_ = 0, beat_s_ = 0;
  double next_attempt_s_ = 0, backoff_s_ = kFirstBackoff_s;
  std::mt19937 random_{std::random_device{}()};
};

}  // namespace

int run_courier(const FederationConfig& config, const std::string& site) {
  // Signals that tell the site to suspend are for the trainer: its last round still needs the courier.
  for (const int signal_number : {SIGUSR1, SIGTERM, SIGINT, SIGPIPE}) std::signal(signal_number, SIG_IGN);
  for (const int number : {kControlDescriptor, kMailboxDescriptor}) fcntl(number, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);  // a killed gateway leaves its helper daemon to us
  const int swept = SessionDirectory::sweep();
  if (swept > 0) log_info("removed {} session directories of processes that were killed", swept);
  Courier(config, site).run();
  return 0;
}

}  // namespace spillway
