// A connection to the hub that only watches: its status snapshots, for display.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "comm/line_socket.hpp"

namespace spillway {

class Observer {
 public:
  // Connects now; read() connects anew after a loss. key: the hub's, null where it has none.
  Observer(Endpoint hub, std::string name, SharedKey key);

  // Takes what has arrived, without waiting. Throws Error(bad_data) where the other side is no hub.
  void read();
  // Waits up to `seconds` for the first snapshot; whether there is one.
  bool wait(double seconds);

  // The newest snapshot (Coordinator::snapshot()); null until the first has come.
  const nlohmann::json& status() const { return status_; }
  // Why there is no connection; empty where there is one.
  std::string problem() const { return socket_.closed() ? socket_.reason() : ""; }

 private:
  void connect();

  Endpoint hub_;
  std::string name_;
  SharedKey key_;
  LineSocket socket_;
  nlohmann::json status_;
  double attempt_s_ = 0;
};

}  // namespace spillway
