// The ranks of one site: one MPI job, MPI_COMM_WORLD.
//
// Gradients are averaged by average(), which another transport (NCCL) may override; control goes over MPI always.
// Waiting ranks nap instead of spinning: a site's processes may share few cores with other work.
// Every function is collective: all ranks call it in the same order. Errors: Error(io) with MPI's text; when a
// rank dies, mpirun ends the job.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "comm/mpi.hpp"

namespace spillway {

// MPI_Init … MPI_Finalize of the process; one per process. When an exception ends it, MPI_Finalize is left out: it
// would wait for ranks that wait for this one. mpirun then ends the job.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

class SiteComm {
 public:
  SiteComm();
  virtual ~SiteComm();
  SiteComm(const SiteComm&) = delete;
  SiteComm& operator=(const SiteComm&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool leader() const { return rank_ == 0; }
  // Machines that the ranks run on, and whether this is the lowest rank of its machine.
  int nodes() const { return nodes_; }
  bool node_leader() const { return node_rank_ == 0; }

  // values = (Σ over ranks of values) / size, in place. The order of additions is fixed by the number of ranks
  // and values.size(): repeats are bit-identical, on all ranks. Host memory here.
  virtual void average(std::span<float> values);

  double max(double value);
  double min(double value);
  double sum(double value);  // added in rank order: bit-identical repeats
  void sum(std::span<double> values);
  // The texts of all ranks of this machine, by rank; longer than 63 bytes: cut.
  std::vector<std::string> gather_on_node(const std::string& text);
  bool any(bool value);
  bool all(bool value);
  void barrier();

  // The leader's bytes to all.
  void broadcast_bytes(std::span<std::byte> bytes);
  template <class T>
  void broadcast(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(std::as_writable_bytes(std::span(&value, 1)));
  }

 private:
  void wait(MPI_Request& request);
  double reduce(double value, MPI_Op operation);

  MpiSession session_;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  MPI_Comm node_ = MPI_COMM_NULL;  // the ranks of this machine
  int rank_ = 0, size_ = 1, node_rank_ = 0, node_size_ = 1, nodes_ = 1;
};

}  // namespace spillway
