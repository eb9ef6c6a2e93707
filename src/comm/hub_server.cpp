#include "comm/hub_server.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr double kStatusInterval_s = 1;
// At changes status goes out at most this often: a burst of messages is one change to people.
constexpr double kShortestStatusInterval_s = 0.2;
constexpr double kStrangersInterval_s = 10;  // between log lines about connections that are no member's
// More connections than any federation has: the rest is refused at the door.
constexpr std::size_t kMostConnections = 256;

}  // namespace

HubServer::HubServer(const Endpoint& listen, double lost_after_s, HubHandler& handler, SharedKey key)
    : listener_(listen), lost_after_s_(lost_after_s), handler_(handler), key_(std::move(key)) {}

HubServer::Connection* HubServer::find_member(const std::string& name) {
  const auto found = std::find_if(connections_.begin(), connections_.end(), [&](const auto& connection) {
    return connection->stage == Stage::member && connection->name == name;
  });
  return found == connections_.end() ? nullptr : found->get();
}

void HubServer::send(const std::string& member, const Message& message) {
  if (Connection* connection = find_member(member)) connection->socket.send(encode(message));
}

void HubServer::run_once(double seconds) {
  std::vector<pollfd> descriptors = {{listener_.descriptor(), POLLIN, 0}};
  for (const auto& connection : connections_)
    descriptors.push_back({connection->socket.descriptor(), connection->socket.events(), 0});
  poll(descriptors.data(), descriptors.size(), static_cast<int>(seconds * 1000));
  const double now_s = monotonic_s();
  accept_all(now_s);
  // Handlers may send to any connection, but connections are removed only here.
  for (std::size_t i = 0; i < connections_.size(); ++i) serve(*connections_[i], now_s);
  handler_.tick(now_s);
  send_status(now_s);
  std::erase_if(connections_, [](const auto& connection) {
    return connection->socket.closed() && connection->stage != Stage::member;
  });
}

void HubServer::accept_all(double now_s) {
  while (auto socket = listener_.accept(lost_after_s_)) {
    if (connections_.size() >= kMostConnections) {
      log_warning("too many connections: {} refused", socket->peer_address());
      continue;
    }
    auto connection = std::make_unique<Connection>();
    connection->socket = std::move(*socket);
    connection->address = connection->socket.peer_address();
    connection->socket.authenticate(key_, Seal::Side::hub);
    connection->heard_s = now_s;
    connections_.push_back(std::move(connection));
  }
}

void HubServer::serve(Connection& connection, double now_s) {
  connection.socket.on_ready();
  // What a waiting member says is read once it is one.
  while (connection.stage != Stage::refused && connection.stage != Stage::waiting) {
    const auto line = connection.socket.next_line();
    if (!line) break;
    connection.heard_s = now_s;
    handle_line(connection, *line, now_s);
  }
  if (connection.stage == Stage::waiting) settle_name(connection, now_s);
  if (connection.stage == Stage::refused && connection.socket.flushed()) connection.socket.close("refused");
  if (connection.socket.closed()) {
    const bool left = connection.stage == Stage::observer && connection.socket.lost();  // as it likes
    if (!left) tell_of_stranger(connection, connection.socket.reason(), now_s);
    drop(connection, now_s, connection.socket.reason());
  } else if (connection.stage != Stage::observer && connection.stage != Stage::waiting &&
             now_s - connection.heard_s > lost_after_s_) {
    const std::string reason = fmt::format("silent for {:.1f} s", now_s - connection.heard_s);
    tell_of_stranger(connection, reason, now_s);
    drop(connection, now_s, reason);
  }
}

void HubServer::handle_line(Connection& connection, const std::string& line, double now_s) {
  try {
    handle(connection, decode(line), now_s);
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_data) throw;
    tell_of_stranger(connection, error.what(), now_s);
    if (connection.name.empty()) return drop(connection, now_s, error.what());
    log_warning("{} at {}: {}", connection.name, connection.address, error.what());
    drop(connection, now_s, "it sent a malformed message");
  }
}

void HubServer::handle(Connection& connection, const Message& message, double now_s) {
  const auto* hello = std::get_if<Hello>(&message);
  switch (connection.stage) {
    case Stage::stranger:
      if (hello == nullptr) fail(ExitCode::bad_data, "the first message must be a hello");
      connection.hello = *hello;
      connection.hello_s = now_s;
      if (hello->role == "observer") {
        connection.stage = Stage::observer;
        last_status_s_ = -1e300;
      } else {
        connection.stage = Stage::waiting;
        settle_name(connection, now_s);
      }
      break;
    case Stage::member:
      if (hello != nullptr) fail(ExitCode::bad_data, "a second hello");
      handler_.received(now_s, connection.name, message);
      if (!std::holds_alternative<MemberHeartbeat>(message)) status_due_ = true;
      // After a bye the name is free for the member's next process, even while this connection lingers.
      if (std::holds_alternative<Bye>(message)) connection.stage = Stage::departed;
      break;
    case Stage::waiting:
    case Stage::observer:
    case Stage::departed:
    case Stage::refused:
      break;
  }
}

// Two live members of one name are an error that ends the second one. But a member that comes back over a new
// connection must not be taken for its own double while the old connection has not been found dead: the same courier
// replaces its old connection, another one waits until the old connection speaks or is lost.
void HubServer::settle_name(Connection& connection, double now_s) {
  Connection* other = find_member(connection.hello.member);
  if (other != nullptr && !connection.hello.probe.empty() && other->hello.probe == connection.hello.probe) {
    drop(*other, now_s, "it has connected anew");
    other = nullptr;
  }
  if (other != nullptr && other->heard_s <= connection.hello_s) return;
  greet(connection, now_s);
}

void HubServer::greet(Connection& connection, double now_s) {
  // The name comes first, as the handler's answers go out by it; a name in use belongs to its older connection.
  connection.name = connection.hello.member;
  connection.heard_s = now_s;
  connection.stage = find_member(connection.name) == nullptr ? Stage::member : Stage::refused;
  if (const auto refuse = handler_.connected(now_s, connection.hello)) {
    connection.stage = Stage::refused;
    connection.socket.send(encode(*refuse));
  }
  status_due_ = true;
}

void HubServer::drop(Connection& connection, double now_s, const std::string& reason) {
  connection.socket.close(reason);
  if (std::exchange(connection.stage, Stage::refused) != Stage::member) return;
  status_due_ = true;
  handler_.disconnected(now_s, connection.name, reason);
}

// Says why a connection without a member is cut off. Anybody can connect as often as he likes: that must not fill the log.
void HubServer::tell_of_stranger(const Connection& connection, const std::string& reason, double now_s) {
  if (connection.stage != Stage::stranger && connection.stage != Stage::observer) return;
  if (now_s < strangers_told_s_ + kStrangersInterval_s) {
    ++strangers_untold_;
    return;
  }
  strangers_told_s_ = now_s;
  const auto untold = std::exchange(strangers_untold_, 0);
  log_warning("{} at {} is disconnected: {}{}",
              connection.stage == Stage::observer ? "an observer" : "a stranger", connection.address, reason,
              untold > 0 ? fmt::format("; {} others since the last such line", untold) : "");
}

void HubServer::send_status(double now_s) {
  if (now_s - last_status_s_ < (status_due_ ? kShortestStatusInterval_s : kStatusInterval_s)) return;
  last_status_s_ = now_s;
  status_due_ = false;
  std::string line;
  for (const auto& connection : connections_) {
    if (connection->stage != Stage::observer) continue;
    if (line.empty()) line = encode(Status{handler_.snapshot(now_s)});
    connection->socket.send(line);
  }
}

void HubServer::flush(double seconds) {
  const double deadline_s = monotonic_s() + seconds;
  const auto pending = [&] {
    return std::any_of(connections_.begin(), connections_.end(), [](const auto& connection) {
      return connection->socket.open() && !connection->socket.flushed();
    });
  };
  while (pending() && monotonic_s() < deadline_s) {
    for (const auto& connection : connections_) connection->socket.on_ready();
    poll(nullptr, 0, 5);
  }
}

}  // namespace spillway
