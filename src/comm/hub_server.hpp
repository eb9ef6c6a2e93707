// The hub's sockets: members and observers over TCP, one line per message. Decides nothing; the handler does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "comm/line_socket.hpp"
#include "comm/protocol.hpp"

namespace spillway {

class HubHandler {
 public:
  virtual ~HubHandler() = default;
  // A hello of a site or the vault. With a reason to refuse, the connection is closed after it has gone out.
  virtual std::optional<Refuse> connected(double now_s, const Hello& hello) = 0;
  virtual void received(double now_s, const std::string& member, const Message& message) = 0;
  virtual void disconnected(double now_s, const std::string& member, const std::string& reason) = 0;
  virtual void tick(double now_s) = 0;
  virtual nlohmann::json snapshot(double now_s) = 0;  // for observers
};

class HubServer {
 public:
  // lost_after_s: a silent member is lost after this. Throws Error(io) naming the address that cannot be used.
  HubServer(const Endpoint& listen, double lost_after_s, HubHandler& handler);

  void send(const std::string& member, const Message& message);
  // Waits for events up to `seconds` and hands them on. Times are monotonic_s().
  void run_once(double seconds);
  // Sends what is still buffered, up to `seconds`.
  void flush(double seconds);
  int port() const { return listener_.port(); }

 private:
  struct Connection {
    LineSocket socket;
    std::string name;  // empty until hello
    bool observer = false;
    bool closing = false;  // refused: close once the reason has gone out
    double heard_s = 0;
  };

  void accept_all(double now_s);
  void serve(Connection& connection, double now_s);
  void handle_line(Connection& connection, const std::string& line, double now_s);
  void greet(Connection& connection, const Hello& hello, double now_s);
  void drop(Connection& connection, double now_s, const std::string& reason);
  void send_status(double now_s);

  Listener listener_;
  double lost_after_s_;
  HubHandler& handler_;
  std::vector<std::unique_ptr<Connection>> connections_;
  double last_status_s_ = 0;
};

}  // namespace spillway
