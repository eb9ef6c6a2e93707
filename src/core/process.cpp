#include "core/process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

#include "core/clock.hpp"
#include "core/error.hpp"

extern char** environ;

namespace spillway {
namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

int open_or_throw(const std::string& path, int flags) {
  const int descriptor = open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) fail(ExitCode::io, "{}: cannot be opened: {}", path, std::strerror(errno));
  return descriptor;
}

// What the child does between fork and exec: async-signal-safe calls only.
[[noreturn]] void become(const ProcessOptions& options, char* const* argv, char* const* envp,
                         const int standard[3], const std::vector<std::pair<int, int>>& descriptors,
                         pid_t parent, int report) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGPIPE}) std::signal(number, SIG_DFL);
  if (options.new_session) setsid();
  if (options.parent_death_signal != 0) {
    prctl(PR_SET_PDEATHSIG, options.parent_death_signal);
    if (getppid() != parent) _exit(127);  // the parent died before the line above
  }
  // Move everything out of the way first: a source may sit on another one's target.
  constexpr int high = 200;
  int moved_report = fcntl(report, F_DUPFD_CLOEXEC, high);
  int moved[3];
  for (int i = 0; i < 3; ++i) moved[i] = fcntl(standard[i], F_DUPFD_CLOEXEC, high);
  int sources[16];
  std::size_t count = 0;
  for (const auto& entry : descriptors) sources[count++] = fcntl(entry.second, F_DUPFD_CLOEXEC, high);
  for (int i = 0; i < 3; ++i) dup2(moved[i], i);
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0)  // kernels before 5.11
    for (int i = 3; i < 1024; ++i) fcntl(i, F_SETFD, FD_CLOEXEC);
  for (std::size_t i = 0; i < count; ++i) dup2(sources[i], descriptors[i].first);
  if (envp != nullptr) environ = const_cast<char**>(envp);
  execvp(argv[0], argv);
  const int error = errno;
  [[maybe_unused]] const auto written = write(moved_report, &error, sizeof error);
  _exit(127);
}

}  // namespace

int shell_status(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

Process::Process(const ProcessOptions& options) {
  SPILLWAY_CHECK(!options.arguments.empty() && options.descriptors.size() <= 16);
  // Everything that allocates happens before the fork.
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment;
  if (options.environment)
    for (const auto& [name, value] : *options.environment) environment.push_back(name + "=" + value);
  const auto argv = pointers(arguments);
  const auto envp = pointers(environment);
  const std::vector<std::pair<int, int>> descriptors(options.descriptors.begin(), options.descriptors.end());

  const int null = open_or_throw("/dev/null", O_RDWR);
  int output = null;
  if (!options.output_file.empty())
    output = open_or_throw(options.output_file, O_WRONLY | O_CREAT | O_APPEND);
  const bool inherit = options.output_file.empty() && !options.quiet;
  const int standard[3] = {options.standard_input >= 0 ? options.standard_input : null,
                           options.standard_output >= 0 ? options.standard_output
                           : inherit                    ? 1
                                                        : output,
                           inherit ? 2 : output};
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) fail(ExitCode::io, "pipe: {}", std::strerror(errno));
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0)
    become(options, argv.data(), options.environment ? envp.data() : nullptr, standard, descriptors, parent,
           report[1]);
  const int fork_error = errno;
  close(report[1]);
  if (output != null) close(output);
  close(null);
  int exec_error = 0;
  const auto got = child > 0 ? read(report[0], &exec_error, sizeof exec_error) : 0;
  close(report[0]);
  if (child < 0) fail(ExitCode::io, "cannot start {}: {}", arguments[0], std::strerror(fork_error));
  if (got == sizeof exec_error) {
    waitpid(child, nullptr, 0);
    fail(ExitCode::io, "cannot start {}: {}", arguments[0], std::strerror(exec_error));
  }
  pid_ = child;
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), status_(std::exchange(other.status_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, 0);
    status_ = std::exchange(other.status_, std::nullopt);
  }
  return *this;
}

Process::~Process() { end(); }

void Process::end() noexcept {
  if (pid_ == 0 || status_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

bool Process::running() {
  if (pid_ == 0 || status_) return false;
  int wait_status = 0;
  const pid_t ended = waitpid(pid_, &wait_status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return true;
  status_ = ended == pid_ ? shell_status(wait_status) : 127;  // ECHILD: somebody else reaped it
  return false;
}

void Process::signal(int signal_number) {
  if (running()) kill(pid_, signal_number);
}

bool Process::wait(double seconds) {
  const double deadline = monotonic_s() + seconds;
  while (running()) {
    if (monotonic_s() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

int available_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::string own_executable() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0 || length == sizeof path)
    fail(ExitCode::io, "/proc/self/exe cannot be read: {}", std::strerror(errno));
  path[length] = '\0';
  struct stat own = {}, there = {};
  const bool same = stat("/proc/self/exe", &own) == 0 && stat(path, &there) == 0 &&
                    own.st_dev == there.st_dev && own.st_ino == there.st_ino;
  return same ? path : fmt::format("/proc/{}/exe", getpid());
}

}  // namespace spillway
