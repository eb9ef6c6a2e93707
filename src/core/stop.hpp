// Requests to stop, from outside: SIGUSR1 (the window closes), SIGTERM and SIGINT.
#pragma once

namespace spillway {

// Installs the handlers. Call before MPI is initialized, so that mpirun's forwarded signals meet them, and again when all
// libraries are: some take signals for themselves (libLLVM on a machine with Ubuntu 24.04 and GPUs). Says which did.
// They are unblocked in the calling thread: a parent may have left them blocked. A second SIGINT ends the process at once.
void install_stop_handlers();

// The signal that asked this process to stop, or 0.
int stop_signal();

// As if the signal had arrived; for the gate's close and for tests.
void request_stop(int signal_number);

// mpirun forwards SIGUSR1 to its ranks, but not where LLVM has taken it for itself: hwloc's OpenCL plugin brings that into
// mpirun (Debian's libhwloc-plugins with pocl). This keeps the plugin out of programs that are started later.
void keep_llvm_out_of_children();

// Whether LLVM is loaded in this process's parent, its launcher, so that SIGUSR1 may end there.
bool launcher_has_llvm();

}  // namespace spillway
