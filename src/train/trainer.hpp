// The training process of one site: the same program on all its ranks.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

// Trains until the run is complete (ExitCode::complete) or this job has to end (ExitCode::suspended). Starts MPI, and
// before that, on rank 0 and with a hub, the site's courier.
ExitCode run_training(const Config& config);

}  // namespace spillway
