// The vault: a member with weight 0 that keeps the newest committed model on disk and gives it to sites that come later.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

// Runs until the run is complete or a stop signal arrives. The model is kept in <run.dir>/vault.
ExitCode run_vault(const Config& config);

}  // namespace spillway
