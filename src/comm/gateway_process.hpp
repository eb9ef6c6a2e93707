// The courier's view of a gateway: start with a clean environment, talk, kill.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/line_socket.hpp"
#include "comm/protocol.hpp"
#include "core/config.hpp"
#include "core/process.hpp"

namespace spillway {

// Both ends inclusive.
struct PortRange {
  int first = 0, last = 0;
};
// How the site's port range is used. A port stays unusable for a minute after its epoch (TIME_WAIT), so there must be
// many.
// The lower half is for Open MPI's byte transfer layer, which looks for a free one itself; all gateways of this host
// share it.
// The upper half is split into slots, one per courier of this host: it holds a slot by listening for probes on the
// slot's first port. Of the others each gateway is given one that is free for Open MPI's runtime: that would listen on
// all it is offered, and go on without any, unreachable, where none is free.
struct PortSlot {
  int probe = 0;
  PortRange runtime;
};
PortRange transfer_ports(const FederationConfig& config);
std::vector<PortSlot> port_slots(const FederationConfig& config);

// Throws Error(usage) naming the key where hub, ports or interface cannot work on this host.
void check_federation(const FederationConfig& config);

// The IPv4 address of the first interface that `include` names (names or CIDR blocks, separated by commas, as in
// Open MPI's if_include). Throws Error(usage) listing this host's interfaces where there is none.
std::string interface_address(const std::string& include);

// The first port in the range that can be listened on at once, on all addresses. Nothing where there is none.
std::optional<int> free_port(PortRange range);

// The whole environment of a gateway. Nothing of the trainer's OMPI_*, PMIX_*, SLURM_* variables may be in it, or the
// gateway would believe that it belongs to the trainer's job.
std::map<std::string, std::string> gateway_environment(const FederationConfig& config,
                                                       const std::string& name_server, int runtime_port,
                                                       const std::filesystem::path& directory);

class GatewayProcess {
 public:
  // Starts `spillway gateway` with `directory` for its files, which is created. Throws Error(io) where that fails.
  GatewayProcess(const FederationConfig& config, const Epoch& epoch, int runtime_port,
                 const std::filesystem::path& directory, int mailbox_descriptor);

  const LineSocket& control() const { return control_; }
  LineSocket& control() { return control_; }
  bool running() { return process_.running(); }
  void kill();
  // The last lines that it or Open MPI printed; one line, may be empty.
  std::string last_words() const;
  std::optional<int> status() const { return process_.status(); }  // once it has ended

 private:
  std::filesystem::path log_;
  LineSocket control_;
  Process process_;
};

}  // namespace spillway
