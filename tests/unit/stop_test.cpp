#include "core/stop.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "tests/catch.hpp"

using namespace spillway;

TEST_CASE("LLVM is kept out of later children, whatever else hwloc is to leave out") {
  unsetenv("HWLOC_COMPONENTS");
  keep_llvm_out_of_children();
  CHECK(std::string(std::getenv("HWLOC_COMPONENTS")) == "-opencl");
  setenv("HWLOC_COMPONENTS", "-cuda", 1);
  keep_llvm_out_of_children();
  CHECK(std::string(std::getenv("HWLOC_COMPONENTS")) == "-cuda,-opencl");
  unsetenv("HWLOC_COMPONENTS");
}

TEST_CASE("a request to stop is heard also where the parent had the signal blocked") {
  const int number = GENERATE(SIGUSR1, SIGTERM, SIGINT);
  INFO("signal " << number);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, number);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    raise(number);
    const bool silent = stop_signal() == 0;
    install_stop_handlers();
    _exit(silent && stop_signal() == number ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
