#include "core/stop.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/log.hpp"

namespace spillway {
namespace {

std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free, "the handler needs a lock-free flag");

void on_signal(int signal_number) {
  const int before = received.exchange(signal_number);
  // Batch systems repeat SIGUSR1 and SIGTERM as a matter of course; only a person repeats SIGINT, and means it.
  if (before == SIGINT && signal_number == SIGINT) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
}

void say_whose(int signal_number, void* handler) {
  Dl_info library;
  const bool known = dladdr(handler, &library) != 0 && library.dli_fname != nullptr;
  log_info("signal {} had been taken over by {}: taken back", signal_number,
           known ? library.dli_fname : "a library");
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  // Whoever started this process may have blocked them, which outlives exec.
  sigset_t unblocked;
  sigemptyset(&unblocked);
  for (const int signal_number : {SIGUSR1, SIGTERM, SIGINT}) {
    struct sigaction former = {};
    sigaction(signal_number, &action, &former);
    if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN && former.sa_handler != on_signal)
      say_whose(signal_number, reinterpret_cast<void*>(former.sa_handler));
    sigaddset(&unblocked, signal_number);
  }
  pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a dead peer is an error of write(), not the end of the process
}

void keep_llvm_out_of_children() {
  constexpr const char* kName = "HWLOC_COMPONENTS";  // a list; "-opencl" excludes
  const char* before = std::getenv(kName);
  setenv(kName, before == nullptr || *before == '\0' ? "-opencl" : fmt::format("{},-opencl", before).c_str(),
         1);
}

bool launcher_has_llvm() {
  std::ifstream maps(fmt::format("/proc/{}/maps", getppid()));
  for (std::string line; std::getline(maps, line);)
    if (line.find("/libLLVM") != std::string::npos) return true;
  return false;
}

int stop_signal() { return received.load(); }

void request_stop(int signal_number) { received.store(signal_number); }

}  // namespace spillway
