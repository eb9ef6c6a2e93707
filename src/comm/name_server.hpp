// The throw-away ompi-server of one epoch: through it the gateways, which Open MPI sees as unrelated jobs, find each other.
#pragma once

#include <filesystem>
#include <string>

#include "core/process.hpp"

namespace spillway {

class NameServer {
 public:
  // Starts ompi-server with its session files below `folder` and waits for its URI. Throws Error(io) where it does not
  // come up, Error(usage) where Open MPI is not a version that can connect separate jobs (4.1 is).
  NameServer(const std::filesystem::path& folder, const std::string& network_interface);
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  const std::string& uri() const { return uri_; }
  bool running() { return process_.running(); }

 private:
  std::filesystem::path folder_;
  Process process_;
  std::string uri_;
};

}  // namespace spillway
