// The courier's view of its gateway: start with a clean environment, talk, kill, leave nothing behind.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "comm/line_socket.hpp"
#include "comm/protocol.hpp"
#include "core/config.hpp"
#include "core/process.hpp"

namespace spillway {

// A part of the site's port range, both ends inclusive.
struct PortRange {
  int first = 0, last = 0;
};
// Open MPI's byte transfer layer, its out-of-band messages, and the couriers' probes each have their own ports.
struct GatewayPorts {
  PortRange transfer, out_of_band, probe;
};
GatewayPorts split_ports(const FederationConfig& config);

// Throws Error(usage) naming the key where hub, ports or interface cannot work on this host.
void check_federation(const FederationConfig& config);

// The IPv4 address of the first interface that `include` names (names or CIDR blocks, separated by commas, as in
// Open MPI's if_include). Throws Error(usage) listing this host's interfaces where there is none.
std::string interface_address(const std::string& include);

// The whole environment of a gateway. Nothing of the trainer's OMPI_*, PMIX_*, SLURM_* variables may be in it, or the
// gateway would believe that it belongs to the trainer's job.
std::map<std::string, std::string> gateway_environment(const FederationConfig& config,
                                                       const std::string& name_server,
                                                       const std::filesystem::path& directory);

class GatewayProcess {
 public:
  // Starts `spillway gateway` with its session directory below `base`. Throws Error(io) where that fails.
  GatewayProcess(const FederationConfig& config, const Epoch& epoch, const std::filesystem::path& base,
                 int mailbox_descriptor);
  // Kills it and the helper daemon that Open MPI gave it, and removes its directory.
  ~GatewayProcess();
  GatewayProcess(const GatewayProcess&) = delete;
  GatewayProcess& operator=(const GatewayProcess&) = delete;

  std::int64_t epoch() const { return epoch_; }
  LineSocket& control() { return control_; }
  bool running() { return process_.running(); }
  // How it ended and the last lines that it or Open MPI printed.
  std::string obituary() const;

 private:
  void reap_helpers();

  std::int64_t epoch_;
  std::filesystem::path directory_, log_;
  LineSocket control_;
  Process process_;
};

}  // namespace spillway
