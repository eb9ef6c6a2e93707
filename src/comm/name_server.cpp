#include "comm/name_server.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>

#include "core/error.hpp"

namespace spillway {
namespace {

// Nothing of the caller's own MPI job may reach it.
std::map<std::string, std::string> clean_environment(const std::string& directory,
                                                     const std::string& network_interface) {
  std::map<std::string, std::string> environment = {{"OMPI_MCA_oob_tcp_if_include", network_interface},
                                                    {"OMPI_MCA_orte_tmpdir_base", directory},
                                                    // It starts nothing elsewhere: it needs no ssh.
                                                    {"OMPI_MCA_plm", "isolated"},
                                                    {"TMPDIR", directory}};
  for (const char* name : {"PATH", "HOME", "LD_LIBRARY_PATH"})
    if (const char* value = std::getenv(name)) environment[name] = value;
  if (geteuid() == 0)
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  return environment;
}

}  // namespace

NameServer::NameServer(const std::string& network_interface) {
  ProcessOptions options;
  options.arguments = {"ompi-server", "--no-daemonize", "--report-uri", (directory_.path() / "uri").string()};
  options.environment = clean_environment(directory_.path().string(), network_interface);
  options.output_file = output_file().string();
  options.new_session = true;
  options.parent_death_signal = SIGKILL;
  try {
    process_ = Process(options);
  } catch (const Error& error) {
    fail(ExitCode::usage, "{}; the hub needs it to connect the sites: install openmpi-bin 4.1", error.what());
  }
}

std::optional<std::string> NameServer::uri() {
  std::ifstream stream(directory_.path() / "uri");
  std::string line;
  // The line is complete once its newline is there.
  if (!std::getline(stream, line) || stream.eof() || line.empty()) return std::nullopt;
  return line;
}

std::string NameServer::last_words() {
  constexpr std::size_t kMost = 300;
  std::ifstream stream(output_file());
  std::string text;
  for (std::string line; text.size() < kMost && std::getline(stream, line);) {
    line.erase(0, line.find_first_not_of("- \t"));
    if (!line.empty()) text += (text.empty() ? "" : " ") + line;
  }
  return text.substr(0, kMost);
}

}  // namespace spillway
