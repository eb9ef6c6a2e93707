// The hub process: coordinator, journal, sockets, name servers and the vault's process.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

struct HubOptions {
  std::string bind;  // HOST:PORT to listen on; empty: federation.hub
  std::vector<std::string>
      vault_command;  // arguments of this program that start the vault; empty: no vault is started
};

// Serves until the run is complete (ExitCode::complete) or a stop signal arrives (ExitCode::suspended).
// The journal is <run.dir>/hub/journal.jsonl; a hub started on it again continues the run.
ExitCode run_hub(const Config& config, const HubOptions& options);

}  // namespace spillway
