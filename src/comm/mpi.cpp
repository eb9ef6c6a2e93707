#include "comm/mpi.hpp"

#include <string>

#include "core/error.hpp"

namespace spillway {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ExitCode::io, "{}: {}", call, text);
}

void require_inter_site_mpi() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(version, &length);
  require_inter_site_mpi(version);
}

void require_inter_site_mpi(const char* library_version) {
  const std::string version(library_version);
  if (version.rfind("Open MPI v4.1.", 0) == 0) return;
  fail(ExitCode::usage,
       "training between sites needs Open MPI 4.1, which can connect separately started jobs; this is {}: "
       "install Open MPI 4.1 or train without --federation.hub",
       version.substr(0, version.find_first_of(",\n")));
}

}  // namespace spillway
