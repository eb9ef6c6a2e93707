// What people ask a hub: its state while it runs, and the proof of what it has done.
#pragma once

#include <string>

#include "cli/commands.hpp"

namespace spillway::cli {

// spillway hub status. Throws Error(io) where no hub answers.
int run_hub_status(const Arguments& arguments);

// spillway hub --audit: the journal of a run.dir, of its folder hub, or the journal's file itself. Returns bad_data
// where a block is counted twice or the journal contradicts itself.
int print_audit(const std::string& where, bool json);

}  // namespace spillway::cli
