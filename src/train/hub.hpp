// The hub process: coordinator, journal, sockets, name servers and the vault's process.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

struct HubOptions {
  std::string bind;                          // HOST:PORT to listen on; empty: federation.hub
  std::vector<std::string> vault_arguments;  // of the vault, its subcommand first; empty: none is started
};

// Serves until the run is complete and its sites have gone (ExitCode::complete) or a stop signal arrives (suspended).
// The journal is <run.dir>/hub/journal.jsonl; a hub started on it again continues the run. Throws Error(usage) where
// Open MPI is not 4.1, or the journal is of another configuration; Error(bad_data) where it is damaged; Error(io).
ExitCode run_hub(const Config& config, const HubOptions& options);

}  // namespace spillway
