// What the providers have in common.
#pragma once

#include <functional>
#include <string>

#include "core/config.hpp"
#include "energy/http.hpp"
#include "energy/signal.hpp"

namespace spillway {

// The first line of signal.key-file, or the environment variable signal.key-env. Throws Error(usage) where there is none.
std::string read_key(const SignalConfig& config);

// Throws Error(usage) where signal.region is empty.
void need_region(const SignalConfig& config);

// signal.url, else the provider's own; without a slash at the end.
std::string base_url(const SignalConfig& config, const std::string& own);

// Throws for all but 200: Error(usage) for 401 and 403, Error(bad_data) else, with the API's own words.
void check_status(const HttpAnswer& answer, const std::string& url);

// The signal in a body that the importers know.
Signal signal_of(const HttpAnswer& answer, const std::string& url, const SignalConfig& config);

// Asks for [from, to) in pieces of at most `longest_s` and joins them.
Signal in_pieces(double from_unix_s, double to_unix_s, double longest_s,
                 const std::function<Signal(double from_unix_s, double to_unix_s)>& ask);

double now_unix_s();

}  // namespace spillway
