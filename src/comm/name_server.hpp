// The throw-away ompi-server of one epoch: through it the gateways, which Open MPI sees as unrelated jobs, find each
// other.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "comm/session_directory.hpp"
#include "core/process.hpp"

namespace spillway {

class NameServer {
 public:
  // Starts ompi-server; does not wait for it. It dies with this process. network_interface: as Open MPI's if_include.
  // Throws Error(usage) where there is no ompi-server, which Open MPI 5 no longer has, and Error(io) otherwise.
  explicit NameServer(const std::string& network_interface);
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  // Its address, once it has reported it.
  std::optional<std::string> uri();
  bool running() { return process_.running(); }
  int status() const { return process_.status().value_or(0); }  // as a shell shows it, once it has ended
  // What it has printed, as one line of at most 300 bytes.
  std::string last_words();

 private:
  std::filesystem::path output_file() { return directory_.path() / "output"; }

  SessionDirectory directory_;
  Process process_;
};

}  // namespace spillway
