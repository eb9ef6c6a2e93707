// `spillway courier`: one process per site, without MPI, between the site's leader, the hub and the gateways.
//
// Started by the leader before MPI_Init (Federation). It keeps the connection to the hub, relays, probes the other
// couriers, and starts and kills the gateways. It outlives the leader just long enough to tell the hub and to clean
// up. Without the hub there is no gateway (fencing): nobody exchanges what nobody could commit.
#pragma once

#include <string>

#include "core/config.hpp"

namespace spillway {

// Runs until the leader closes its end of kControlDescriptor. Returns the exit code.
int run_courier(const FederationConfig& config, const std::string& site);

}  // namespace spillway
