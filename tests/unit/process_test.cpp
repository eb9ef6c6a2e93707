#include "core/process.hpp"

#include <unistd.h>

#include <csignal>
#include <string>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

std::string read_all(int descriptor) {
  std::string text;
  char buffer[256];
  for (ssize_t got; (got = read(descriptor, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  return text;
}

ProcessOptions shell(const std::string& script) {
  ProcessOptions options;
  options.arguments = {"sh", "-c", script};
  options.quiet = true;
  return options;
}

}  // namespace

TEST_CASE("a child's exit code and signal are reported as a shell does") {
  Process exits(shell("exit 75"));
  REQUIRE(exits.wait(10));
  REQUIRE(exits.status() == 75);
  Process sleeps(shell("sleep 60"));
  REQUIRE(sleeps.running());
  sleeps.signal(SIGTERM);
  REQUIRE(sleeps.wait(10));
  REQUIRE(sleeps.status() == 128 + SIGTERM);
}

TEST_CASE("a child gets its descriptors and environment and no others") {
  int leaked[2], passed[2];
  REQUIRE(pipe(leaked) == 0);  // without close-on-exec
  REQUIRE(pipe(passed) == 0);
  auto options = shell("echo \"$ANSWER\" >&7; ls /proc/self/fd | wc -l >&7");
  options.environment = {{"ANSWER", "42"}, {"PATH", "/usr/bin:/bin"}};
  options.descriptors = {{7, passed[1]}};
  Process child(options);
  close(passed[1]);
  const std::string text = read_all(passed[0]);
  REQUIRE(child.wait(10));
  // ls: 0, 1 (the pipe to wc), 2, 7 and the folder itself.
  REQUIRE(text == "42\n5\n");
  close(passed[0]);
  close(leaked[0]);
  close(leaked[1]);
}

TEST_CASE("a program that does not exist is one clear error") {
  ProcessOptions options;
  options.arguments = {"/nowhere/spillway-test"};
  REQUIRE_THROWS_WITH(Process(options), "cannot start /nowhere/spillway-test: No such file or directory");
}

TEST_CASE("the destructor ends what still runs") {
  pid_t pid = 0;
  {
    Process child(shell("sleep 60"));
    pid = child.pid();
  }
  REQUIRE(kill(pid, 0) != 0);
}
