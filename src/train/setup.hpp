// What hub, vault and trainer derive from a configuration in the same way.
#pragma once

#include <string>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "core/layout.hpp"
#include "model/spec.hpp"

namespace spillway {

struct RunSetup {
  GptSpec spec;
  ParameterLayout layout;
  std::string digest;       // run_digest()
  std::string data_digest;  // data_digest() of data.dir; empty where that is not set
};

// The vocabulary comes from model.vocab, else from the data in data.dir. Throws Error(usage) or Error(bad_data).
RunSetup make_setup(const Config& config);

// The clock of [clock], starting now. Throws Error(usage) naming the key.
ClockSpec make_clock(const ClockConfig& config);

}  // namespace spillway
