#include "comm/hub_server.hpp"

#include <poll.h>

#include <algorithm>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr double kStatusInterval_s = 0.5;
// More connections than any federation has: the rest is refused at the door.
constexpr std::size_t kMostConnections = 256;

}  // namespace

HubServer::HubServer(const Endpoint& listen, double lost_after_s, HubHandler& handler)
    : listener_(listen), lost_after_s_(lost_after_s), handler_(handler) {}

void HubServer::send(const std::string& member, const Message& message) {
  for (const auto& connection : connections_)
    if (connection->name == member && !connection->observer) connection->socket.send(encode(message));
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
  std::erase_if(connections_, [](const auto& connection) { return connection->socket.closed(); });
}

void HubServer::accept_all(double now_s) {
  while (auto socket = listener_.accept(lost_after_s_)) {
    if (connections_.size() >= kMostConnections) {
      log_warning("too many connections: {} refused", socket->peer_address());
      continue;
    }
    auto connection = std::make_unique<Connection>();
    connection->socket = std::move(*socket);
    connection->heard_s = now_s;
    connections_.push_back(std::move(connection));
  }
}

void HubServer::serve(Connection& connection, double now_s) {
  connection.socket.on_ready();
  while (auto line = connection.socket.next_line()) {
    connection.heard_s = now_s;
    if (!connection.closing) handle_line(connection, *line, now_s);
  }
  if (connection.closing && connection.socket.flushed()) connection.socket.close("refused");
  if (connection.socket.closed())
    drop(connection, now_s, connection.socket.reason());
  else if (!connection.observer && now_s - connection.heard_s > lost_after_s_)
    drop(connection, now_s, fmt::format("silent for {:.0f} s", now_s - connection.heard_s));
}

void HubServer::handle_line(Connection& connection, const std::string& line, double now_s) {
  try {
    const Message message = decode(line);
    const auto* hello = std::get_if<Hello>(&message);
    if (connection.name.empty() && hello != nullptr)
      greet(connection, *hello, now_s);
    else if (connection.name.empty())
      drop(connection, now_s, "its first message was not a hello");
    else if (!connection.observer)
      handler_.received(now_s, connection.name, message);
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_data) throw;
    log_warning("{} at {}: {}", connection.name.empty() ? "a stranger" : connection.name,
                connection.socket.peer_address(), error.what());
    drop(connection, now_s, "it sent a malformed message");
  }
}

void HubServer::greet(Connection& connection, const Hello& hello, double now_s) {
  if (hello.role == "observer") {
    connection.name = "observer";
    connection.observer = true;
    last_status_s_ = 0;
    return;
  }
  // Before the handler's answers, which go out by name; a name in use is taken back below.
  const bool taken = std::any_of(connections_.begin(), connections_.end(), [&](const auto& other) {
    return other.get() != &connection && other->name == hello.member && !other->observer;
  });
  if (!taken) connection.name = hello.member;
  if (const auto refuse = handler_.connected(now_s, hello)) {
    connection.name.clear();
    connection.closing = true;
    connection.socket.send(encode(*refuse));
  }
}

void HubServer::drop(Connection& connection, double now_s, const std::string& reason) {
  connection.socket.close(reason);
  if (connection.name.empty() || connection.observer) return;
  const std::string name = std::exchange(connection.name, "");
  handler_.disconnected(now_s, name, reason);
}

void HubServer::send_status(double now_s) {
  if (now_s - last_status_s_ < kStatusInterval_s) return;
  last_status_s_ = now_s;
  std::string line;
  for (const auto& connection : connections_) {
    if (!connection->observer) continue;
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
