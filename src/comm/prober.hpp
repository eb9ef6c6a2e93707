// Which peers can be reached: small TCP connections to the other couriers, now and then, over the interface that the
// gateways use. The hub compares everybody's answers when it picks the members of an epoch.
#pragma once

#include <poll.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/gateway_process.hpp"
#include "comm/line_socket.hpp"

namespace spillway {

class Prober {
 public:
  // Takes the first free slot and answers probes at `address`. Throws Error(io) where all are taken.
  Prober(const std::string& address, const std::vector<PortSlot>& slots);

  const PortSlot& slot() const { return slot_; }
  const std::string& endpoint() const { return endpoint_; }  // "address:port" for the peers

  // Name → "address:port" of the couriers to probe from now on.
  void set_peers(const std::map<std::string, std::string>& peers);
  // Adds what poll(2) should wait for.
  void collect(std::vector<pollfd>& entries) const;
  // Starts, ends and answers probes; does not wait.
  void step();
  // A peer is reached until two probes in a row have failed, and not before the first has succeeded.
  std::map<std::string, bool> reach() const;

 private:
  struct Peer {
    std::string address;
    LineSocket probe;
    bool probing = false, reached = false;
    int failures = 0;
    double next_s = 0, started_s = 0;
  };
  void start(Peer& peer);
  void finish(Peer& peer, bool success);

  std::optional<Listener> listener_;
  PortSlot slot_;
  std::string endpoint_;
  std::map<std::string, Peer> peers_;
};

}  // namespace spillway
