// Where live signals come from: HTTP APIs, or a file that something else keeps up to date.
#pragma once

#include <memory>
#include <string>

#include "core/config.hpp"
#include "energy/http.hpp"
#include "energy/signal.hpp"

namespace spillway {

// Talks to one API about one region. All throw Error(io) where it cannot be reached or is busy for too long,
// Error(bad_data) for an answer that is none, Error(usage) for what it does not have or keys it refuses.
class Provider {
 public:
  virtual ~Provider() = default;
  // What is known about now: the last samples before the instant, and later ones where the API has them.
  virtual Signal live(double now_unix_s) = 0;
  // [from, to), in as many requests as the API's limits need.
  virtual Signal history(double from_unix_s, double to_unix_s) = 0;
  // From now on.
  virtual Signal forecast() = 0;
};

// watttime:          v3; key USER:PASSWORD; logs in, and again when the token (30 minutes) is refused.
// watttime-index:    v3 signal-index: the percentile (0…100) of the present value; no history, no forecast, no emissions.
// electricity-maps:  v3; key is the auth-token.
// uk-carbon-intensity: no key.
// http:              any address that answers with JSON; signal.pointer leads to the value, whose unit is signal.unit.
// file:              signal.file, read again when it changed.
// Throws Error(usage) for another name or missing options. Keys are read here, from key-file or key-env of the section, and
// appear in no message.
std::unique_ptr<Provider> make_provider(const SignalConfig& config, const HttpOptions& options);

}  // namespace spillway
