// `spillway gateway`: one process per site and epoch, the only one that is in an MPI universe with other sites.
//
// An Open MPI singleton started by the courier. It joins the epoch's communicator and then exchanges what the mailbox
// holds, on command. It never has to survive anything: any error, stall or doubt ends it, because a survivor of a
// broken communicator can block for ever or take its job down (inter-site.md, "Facts").
//
// Its part of each vector is that of its stream; part_of() in exchange.hpp.
//
// Lines on kControlDescriptor: in Epoch (first), Go, Sync, Stop; out Formed, Exchanged (round 0: a sync), Fail, Stopped.
#pragma once

#include "core/config.hpp"

namespace spillway {

// Returns the exit code: 0 after a planned stop. Does not return after a failure.
int run_gateway(const FederationConfig& config);

}  // namespace spillway
