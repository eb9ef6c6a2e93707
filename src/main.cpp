// Picks the subcommand and turns errors into one line and an exit code.
#include <fmt/core.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace {

void print_usage() {
  std::cout << "usage: spillway <command> [--config FILE.ini] [--section.key value ...]\n\n"
               "Pretrains language models on curtailed electricity, as MPI jobs of one or several "
               "sites.\n\ncommands:\n";
  for (const auto& command : spillway::cli::commands())
    if (!command.internal) std::cout << fmt::format("  {:<10} {}\n", command.name, command.summary);
  std::cout << "\nspillway <command> --help shows a command's options; spillway --version the version.\n"
               "exit codes: 0 complete, 64 usage, 65 bad data, 70 internal error, 74 I/O, 75 suspended\n";
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty()) {
    print_usage();
    return static_cast<int>(spillway::ExitCode::usage);
  }
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    print_usage();
    return 0;
  }
  if (arguments[0] == "--version") {
    std::cout << "spillway " SPILLWAY_VERSION "\n";
    return 0;
  }
  for (const auto& command : spillway::cli::commands())
    if (command.name == arguments[0]) return command.run({arguments.begin() + 1, arguments.end()});
  spillway::fail(spillway::ExitCode::usage, "unknown command '{}'; see spillway --help", arguments[0]);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const spillway::Error& error) {
    spillway::log_error("{}", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    spillway::log_error("internal error: {}", error.what());
    return static_cast<int>(spillway::ExitCode::internal);
  }
}
