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
  // lost_after_s: a silent connection is lost after this, observers aside. With a key all who connect must have it.
  // Throws Error(io) naming the address that cannot be used.
  HubServer(const Endpoint& listen, double lost_after_s, HubHandler& handler, SharedKey key = nullptr);

  void send(const std::string& member, const Message& message);
  // Waits for events up to `seconds` and hands them on. Times are monotonic_s().
  void run_once(double seconds);
  // Sends what is still buffered, up to `seconds`.
  void flush(double seconds);
  int port() const { return listener_.port(); }

 private:
  enum class Stage {
    stranger,  // has not said hello
    waiting,   // has, with the name of a member that may be dead: see settle_name()
    member,
    observer,
    departed,  // has said bye and closes the connection itself
    refused,   // closed once it has been told so; closed connections end here too
  };
  struct Connection {
    LineSocket socket;
    Stage stage = Stage::stranger;
    std::string name;     // of a member
    Hello hello;          // of a member, or of one that waits
    std::string address;  // of the other side
    double heard_s = 0, hello_s = 0;
  };

  void accept_all(double now_s);
  void serve(Connection& connection, double now_s);
  void handle_line(Connection& connection, const std::string& line, double now_s);
  void handle(Connection& connection, const Message& message, double now_s);
  void settle_name(Connection& connection, double now_s);
  void greet(Connection& connection, double now_s);
  void drop(Connection& connection, double now_s, const std::string& reason);
  void tell_of_stranger(const Connection& connection, const std::string& reason, double now_s);
  Connection* find_member(const std::string& name);
  void send_status(double now_s);

  Listener listener_;
  double lost_after_s_;
  HubHandler& handler_;
  SharedKey key_;
  std::vector<std::unique_ptr<Connection>> connections_;
  double last_status_s_ = -1e300;
  bool status_due_ = false;  // something has changed since
  double strangers_told_s_ = -1e300;
  std::int64_t strangers_untold_ = 0;
};

}  // namespace spillway
