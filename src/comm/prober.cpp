#include "comm/prober.hpp"

#include <fmt/format.h>

#include "core/clock.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr double kInterval_s = 1;
constexpr double kTimeout_s = 2;
constexpr int kFailuresToLose = 2;

std::vector<int> probe_ports(const std::vector<PortSlot>& slots) {
  std::vector<int> ports;
  for (const PortSlot& slot : slots) ports.push_back(slot.probe);
  return ports;
}

}  // namespace

Prober::Prober(const std::string& address, const std::vector<PortSlot>& slots) {
  for (const PortSlot& slot : slots) {
    try {
      listener_.emplace(Endpoint{address, slot.probe});
    } catch (const Error&) {
      continue;  // taken, most likely by the courier of another site on this host
    }
    slot_ = slot;
    endpoint_ = format_endpoint({address, slot.probe});
    return;
  }
  fail(ExitCode::io,
       "{}: none of the ports {} is free: choose others with --federation.port-min, more with "
       "--federation.port-count",
       address, fmt::join(probe_ports(slots), ", "));
}

void Prober::set_peers(const std::map<std::string, std::string>& peers) {
  std::map<std::string, Peer> next;
  for (const auto& [name, address] : peers) {
    const auto known = peers_.find(name);
    if (known != peers_.end() && known->second.address == address)
      next.emplace(name, std::move(known->second));
    else
      next[name].address = address;
  }
  peers_ = std::move(next);
}

void Prober::collect(std::vector<pollfd>& entries) const {
  entries.push_back({listener_->descriptor(), POLLIN, 0});
  for (const auto& [name, peer] : peers_)
    if (peer.probing) entries.push_back({peer.probe.descriptor(), peer.probe.events(), 0});
}

void Prober::step() {
  while (listener_->accept(kTimeout_s)) continue;  // being connected is the whole answer
  const double now_s = monotonic_s();
  for (auto& [name, peer] : peers_) {
    if (peer.probing) {
      peer.probe.on_ready();
      // The other side closes at once, so an ended connection was one.
      if (!peer.probe.connecting())
        finish(peer, peer.probe.open() || peer.probe.reason() == kClosedByPeer);
      else if (now_s - peer.started_s > kTimeout_s)
        finish(peer, false);
    } else if (now_s >= peer.next_s) {
      start(peer);
    }
  }
}

void Prober::start(Peer& peer) {
  peer.started_s = monotonic_s();
  peer.probing = true;
  try {
    peer.probe = LineSocket::connect(parse_endpoint("probe", peer.address), kTimeout_s);
  } catch (const Error&) {
    finish(peer, false);  // not an address
    return;
  }
  if (peer.probe.closed()) finish(peer, false);
}

void Prober::finish(Peer& peer, bool success) {
  peer.probe.close("probe done");
  peer.probing = false;
  peer.failures = success ? 0 : peer.failures + 1;
  if (success) peer.reached = true;
  if (peer.failures >= kFailuresToLose) peer.reached = false;
  peer.next_s = monotonic_s() + kInterval_s;
}

std::map<std::string, bool> Prober::reach() const {
  std::map<std::string, bool> result;
  for (const auto& [name, peer] : peers_) result[name] = peer.reached;
  return result;
}

}  // namespace spillway
