// Log lines go to stderr: "2026-01-11T17:05:00Z california[0] info  text". Standard output is for results.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

namespace spillway {

enum class LogLevel { debug, info, warning, error, none };  // none: only as a threshold

// Who speaks, e.g. "california[0]"; shown on every line. Set once at start.
void set_log_source(const std::string& source);
// Lines below this level are dropped. Default: info.
void set_log_level(LogLevel level);
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace spillway
