#include "comm/name_server.hpp"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/clock.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

std::map<std::string, std::string> clean_environment(const std::filesystem::path& folder,
                                                     const std::string& interface) {
  std::map<std::string, std::string> environment;
  for (const char* name : {"PATH", "HOME", "LD_LIBRARY_PATH"})
    if (const char* value = std::getenv(name)) environment[name] = value;
  environment["OMPI_MCA_oob_tcp_if_include"] = interface;
  environment["OMPI_MCA_orte_tmpdir_base"] = folder.string();
  environment["TMPDIR"] = folder.string();
  environment["OMPI_ALLOW_RUN_AS_ROOT"] = environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  return environment;
}

}  // namespace

NameServer::NameServer(const std::filesystem::path& folder, const std::string& network_interface)
    : folder_(folder) {
  std::filesystem::create_directories(folder_);
  const auto uri_file = folder_ / "uri";
  std::filesystem::remove(uri_file);
  ProcessOptions options;
  options.arguments = {"ompi-server", "--no-daemonize", "--report-uri", uri_file.string()};
  options.environment = clean_environment(folder_, network_interface);
  options.quiet = true;
  options.parent_death_signal = SIGKILL;
  try {
    process_ = Process(options);
  } catch (const Error& error) {
    fail(ExitCode::usage,
         "{}; sites meet through Open MPI 4.1's ompi-server, which Open MPI 5 no longer has: install "
         "openmpi-bin 4.1",
         error.what());
  }
  constexpr double patience_s = 5;
  const double deadline_s = monotonic_s() + patience_s;
  while (uri_.empty() && process_.running() && monotonic_s() < deadline_s) {
    std::ifstream stream(uri_file);
    std::string line;
    // The line is complete once its newline is there.
    if (std::getline(stream, line) && !stream.eof()) uri_ = line;
    if (uri_.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (uri_.empty()) fail(ExitCode::io, "ompi-server did not report its address within {} s", patience_s);
}

NameServer::~NameServer() {
  process_ = Process();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace spillway
