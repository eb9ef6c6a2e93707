// Child processes: started with posix-like care, signalled and reaped by pid.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

struct ProcessOptions {
  std::vector<std::string> arguments;  // argv; [0] is looked up in PATH
  std::optional<std::map<std::string, std::string>>
      environment;  // whole environment; none: this process's own
  std::string
      output_file;  // standard output and error are appended to it; empty: /dev/null if `quiet`, else inherited
  bool quiet = false;
  bool new_session = false;        // setsid(): terminal signals do not reach it
  int parent_death_signal = 0;     // delivered to it when this process's starting thread ends; 0: none
  std::map<int, int> descriptors;  // child's descriptor → ours; all others above 2 are closed in the child
  int standard_input = -1;         // ours, becomes the child's descriptor 0; −1: /dev/null
  int standard_output = -1;        // ours, becomes the child's descriptor 1; −1: as `output_file` says
};

// How a child ended, as a shell shows it: exit code, or 128 + signal.
int shell_status(int wait_status);

// Owns one child. The destructor kills (SIGKILL) and reaps it if it still runs.
class Process {
 public:
  Process() = default;
  // Throws Error(io) where the program cannot be started, naming it and the reason.
  explicit Process(const ProcessOptions& options);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool running();                                        // started and not ended yet; reaps
  std::optional<int> status() const { return status_; }  // shell_status, once it has ended
  void signal(int signal_number);                        // nothing if it has ended
  // Waits up to `seconds`; true if it has ended.
  bool wait(double seconds);

 private:
  void end() noexcept;
  pid_t pid_ = 0;
  std::optional<int> status_;
};

// How many processors this process may run on.
int available_processors();

// A path to this very program, for starting its other subcommands; valid while this process lives. Where an upgrade has
// replaced or removed the file since this process started, it still leads to the old one: parts of one run must not be of
// two versions. So ask anew for each start.
std::string own_executable();

}  // namespace spillway
