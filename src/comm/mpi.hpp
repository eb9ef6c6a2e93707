// MPI without its C++ bindings, and with errors as exceptions.
#pragma once

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

namespace spillway {

// Throws Error(io) with MPI's own text where `code` is not MPI_SUCCESS.
void check_mpi(int code, const char* call);

// Inter-site training connects separately started MPI processes; of Open MPI's releases 4.1 can do that. Throws
// Error(usage) naming the library found where this program runs on another one. Works before MPI_Init.
void require_inter_site_mpi();
// The same on a text as MPI_Get_library_version gives it.
void require_inter_site_mpi(const char* library_version);

}  // namespace spillway
