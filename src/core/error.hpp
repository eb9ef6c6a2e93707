// One funnel for errors: everything that goes wrong ends in fail(), and main() turns it into one line and an exit code.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace spillway {

// Exit codes of every subcommand, after BSD's sysexits. The batch scripts read them: they are a contract.
enum class ExitCode : int {
  complete = 0,    // the work is done
  usage = 64,      // wrong command line or configuration
  bad_data = 65,   // an input file is missing, truncated, corrupt or foreign
  internal = 70,   // a bug, or a state that should not be possible
  io = 74,         // the system refused to read, write or connect
  suspended = 75,  // stopped in good order before the end: come back with the next window
};

// An error with the exit code it leads to. The message is one line and names file, field and remedy.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace spillway

// A condition that only a bug can break. Always compiled in.
#define SPILLWAY_CHECK(condition)                                                                     \
  do {                                                                                                \
    if (!(condition))                                                                                 \
      ::spillway::fail(::spillway::ExitCode::internal, "{}:{}: check failed: {}", __FILE__, __LINE__, \
                       #condition);                                                                   \
  } while (false)
