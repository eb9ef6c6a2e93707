// Instants are doubles in seconds since 1970-01-01T00:00:00Z ("unix_s"); durations are doubles in seconds ("_s").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spillway {

// "2026-01-11T17:00:00Z"; whole seconds (rounded down).
std::string format_utc(double unix_s);

// ISO 8601 with 'T' or a blank between date and time, seconds and their fraction optional, zone "Z", "+hh:mm",
// "+hhmm" or none. Without a zone the value is taken as UTC and *had_zone (if given) is set to false.
// Nothing where the text is not such an instant.
std::optional<double> parse_utc(std::string_view text, bool* had_zone = nullptr);

// "90s", "15m", "2h", "1d", "1h30m", "250ms", or a plain number of seconds. Nothing where the text is none of these.
std::optional<double> parse_duration(std::string_view text);

// The shortest exact spelling that parse_duration reads back: "15m", "1h30m", "0.25s".
std::string format_duration(double seconds);

}  // namespace spillway
