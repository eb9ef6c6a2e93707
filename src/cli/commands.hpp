// The subcommands. Each lives in a file of its own: options in, calls, exit code out.
#pragma once

#include <string>
#include <vector>

namespace spillway::cli {

using Arguments = std::vector<std::string>;

int run_windows(const Arguments& arguments);

}  // namespace spillway::cli
