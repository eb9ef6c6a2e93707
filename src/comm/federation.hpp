// The leader's end of the federation: messages to and from the hub, and the mailbox of the exchanges.
//
// Owns the site's courier, which it starts again when it dies. Nothing here blocks on the network. A thread beats in the
// mailbox, so that the courier can tell a leader that is busy, however long, from one whose process is stopped.
// The leader of a site, and the vault, work as protocol.hpp says:
//   send(Hello) first; it is kept and said on every connection, so send it again whenever model, consumed or leased
//   have changed. doubt_epoch and doubt_round are filled in here: from Done until Commit, Abort or Outcome.
//   After HubLost nothing reaches the hub until HubConnected; what was sent in between is lost, except Hello, the
//   newest Window (as Hello.open) and the newest progress.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "comm/line_socket.hpp"
#include "comm/mailbox.hpp"
#include "comm/protocol.hpp"
#include "core/config.hpp"
#include "core/process.hpp"

namespace spillway {

class Federation {
 public:
  // Call before MPI_Init: a process that MPI knows nothing of must be forked from one that does not know MPI.
  // `site` is this member's name; `state_count` as Mailbox::create's. Throws Error(usage) for a configuration or an MPI
  // library that cannot work here, Error(io) where memory or processes cannot be had. An unreachable hub is no error: it
  // comes as HubLost.
  // `program` is the spillway binary; empty: this process's own.
  Federation(const FederationConfig& config, const std::string& site, std::int64_t parameter_count,
             std::int64_t state_count, const std::string& program = "");
  // Ends the courier. Without a Bye before, the hub counts this member as failed.
  ~Federation();
  Federation(const Federation&) = delete;
  Federation& operator=(const Federation&) = delete;

  void send(const Message& message);
  // The next message, if one has come.
  std::optional<Message> poll();
  // The same, waiting up to `seconds` for it.
  std::optional<Message> wait(double seconds);

  bool connected() const {
    return connected_;
  }  // between HubConnected and HubLost, as far as poll() has told
  std::span<float> contribution() const { return mailbox_.contribution(); }
  std::span<float> velocity() const { return mailbox_.velocity(); }
  std::span<float> optimizer_state() const { return mailbox_.optimizer_state(); }
  std::span<float> feedback() const {
    mailbox_.reserve_feedback();
    return mailbox_.feedback();
  }
  pid_t courier_pid() const { return courier_.pid(); }

 private:
  void start_courier();
  void start_beating();
  void keep_courier();
  void send_hello();
  void note(const Message& message);

  FederationConfig config_;
  std::string site_, program_;
  Mailbox mailbox_;
  Process courier_;
  LineSocket socket_;
  std::optional<Hello> hello_;
  std::optional<MemberHeartbeat> heartbeat_;
  std::deque<Message> own_;  // to be delivered by poll() before anything else
  bool connected_ = false;
  bool leaving_ = false;
  double started_s_ = 0, restart_s_ = 0, backoff_s_ = 0;
  std::jthread beating_;  // last: it ends before the mailbox does
};

}  // namespace spillway
