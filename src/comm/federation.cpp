#include "comm/federation.hpp"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <mutex>

#include "comm/gateway_process.hpp"
#include "comm/mpi.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

constexpr double kFirstBackoff_s = 0.2, kLastBackoff_s = 10;
constexpr double kSettled_s = 5;   // a courier that lives this long counts as started
constexpr double kFarewell_s = 3;  // for the courier to tell the hub and to clean up
constexpr int kTick_ms = 100;      // between two looks at the courier
constexpr auto kBeat = std::chrono::milliseconds(250);

const FederationConfig& checked(const FederationConfig& config) {
  require_inter_site_mpi();
  check_federation(config);
  read_key(config.key_file);  // the courier reads it itself; what is wrong with it shows here
  return config;
}

}  // namespace

Federation::Federation(const FederationConfig& config, const std::string& site, std::int64_t parameter_count,
                       std::int64_t state_count, const std::string& program)
    : config_(checked(config)),
      site_(site),
      program_(program),
      mailbox_(Mailbox::create(parameter_count, state_count)) {
  start_courier();
  start_beating();
}

void Federation::start_beating() {
  // Signals are for the other threads: they wait to be interrupted.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  beating_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any ended;
    for (std::unique_lock lock(mutex); !stop.stop_requested();) {
      mailbox_.beat();
      ended.wait_for(lock, stop, kBeat, [] { return false; });
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Federation::~Federation() {
  // Lines already sent stay readable; the end of the connection tells the courier to finish.
  socket_.close("leader leaves");
  courier_.wait(kFarewell_s);
}

void Federation::start_courier() {
  auto [ours, theirs] = socket_pair();
  ProcessOptions options;
  options.arguments = {program_.empty() ? own_executable() : program_,
                       "courier",
                       "--site.name",
                       site_,
                       "--federation.hub",
                       config_.hub,
                       "--federation.interface",
                       config_.interface,
                       "--federation.port-min",
                       std::to_string(config_.port_min),
                       "--federation.port-count",
                       std::to_string(config_.port_count),
                       "--federation.heartbeat",
                       format_duration(config_.heartbeat_s),
                       "--federation.lost-after",
                       format_duration(config_.lost_after_s),
                       "--federation.exchange-deadline",
                       format_duration(config_.exchange_deadline_s)};
  if (!config_.key_file.empty())
    options.arguments.insert(options.arguments.end(), {"--federation.key-file", config_.key_file});
  options.new_session = true;  // mpirun's and the terminal's signals to the trainer are not for it
  options.descriptors = {{kControlDescriptor, theirs.get()}, {kMailboxDescriptor, mailbox_.descriptor()}};
  courier_ = Process(options);
  socket_ = LineSocket(std::move(ours));
  started_s_ = monotonic_s();
  if (hello_) send_hello();
  if (heartbeat_) socket_.send(encode(*heartbeat_));
}

// Starts a new courier in place of a dead one, later and later while they do not live long.
void Federation::keep_courier() {
  const double now_s = monotonic_s();
  if (socket_.open() || leaving_) return;
  if (restart_s_ == 0) {
    courier_.wait(kFarewell_s);
    const std::string reason = fmt::format("courier ended with status {}", courier_.status().value_or(0));
    log_warning("{}", reason);
    if (connected_) own_.push_back(HubLost{reason});
    backoff_s_ = now_s - started_s_ > kSettled_s
                     ? kFirstBackoff_s
                     : std::clamp(2 * backoff_s_, kFirstBackoff_s, kLastBackoff_s);
    restart_s_ = now_s + backoff_s_;
  } else if (now_s >= restart_s_) {
    try {
      start_courier();
      restart_s_ = 0;
    } catch (const Error& error) {  // training goes on without; later there may be memory or processes again
      log_warning("{}", error.what());
      restart_s_ = now_s + kLastBackoff_s;
    }
  }
}

void Federation::send_hello() { socket_.send(encode(*hello_)); }

void Federation::send(const Message& message) {
  if (const auto* hello = std::get_if<Hello>(&message)) {
    const auto epoch = hello_ ? hello_->doubt_epoch : 0, round = hello_ ? hello_->doubt_round : 0;
    hello_ = *hello;
    hello_->doubt_epoch = epoch;
    hello_->doubt_round = round;
    return send_hello();
  }
  if (const auto* window = std::get_if<WindowChange>(&message); window && hello_) {
    hello_->open = window->open;
    send_hello();
  }
  if (const auto* done = std::get_if<Done>(&message); done && hello_) {
    hello_->doubt_epoch = done->epoch;
    hello_->doubt_round = done->round;
    send_hello();  // before the message itself: the courier may die between the two
  }
  if (const auto* heartbeat = std::get_if<MemberHeartbeat>(&message)) heartbeat_ = *heartbeat;
  if (std::holds_alternative<Bye>(message)) leaving_ = true;
  socket_.send(encode(message));
}

// Follows what a message from the hub means for the connection and the doubt.
void Federation::note(const Message& message) {
  if (std::holds_alternative<HubConnected>(message)) connected_ = true;
  if (std::holds_alternative<HubLost>(message)) {
    connected_ = false;
    if (hello_) send_hello();  // the courier waits for one that knows all that was said before
  }
  if (!hello_ || hello_->doubt_epoch == 0) return;
  const auto resolves = [&](std::int64_t epoch, std::int64_t round) {
    return epoch == hello_->doubt_epoch && round == hello_->doubt_round;
  };
  bool resolved = false;
  if (const auto* commit = std::get_if<Commit>(&message)) resolved = resolves(commit->epoch, commit->round);
  if (const auto* outcome = std::get_if<Outcome>(&message))
    resolved = resolves(outcome->epoch, outcome->round);
  // The hub commits before it aborts: an epoch aborted without a commit has not committed.
  if (const auto* abort = std::get_if<Abort>(&message)) resolved = abort->epoch == hello_->doubt_epoch;
  if (!resolved) return;
  hello_->doubt_epoch = hello_->doubt_round = 0;
  send_hello();
}

std::optional<Message> Federation::poll() {
  socket_.on_ready();
  std::optional<Message> message;
  if (const auto line = socket_.next_line()) {
    message = decode(*line);
  } else {
    keep_courier();
    if (!own_.empty()) {
      message = std::move(own_.front());
      own_.pop_front();
    }
  }
  if (message) note(*message);
  return message;
}

std::optional<Message> Federation::wait(double seconds) {
  const double end_s = monotonic_s() + seconds;
  for (;;) {
    auto message = poll();
    const double left_s = end_s - monotonic_s();
    if (message || left_s <= 0) return message;
    pollfd entry = {socket_.descriptor(), socket_.events(), 0};
    ::poll(&entry, socket_.open() ? 1 : 0, std::min(kTick_ms, static_cast<int>(left_s * 1000) + 1));
  }
}

}  // namespace spillway
