// The ranks of one site: one MPI job, MPI_COMM_WORLD.
//
// Arrays here are in host memory; GpuSite (nccl.hpp) does the same on GPUs. Control goes over MPI always.
// Waiting ranks nap instead of spinning: a site's processes may share few cores with other work.
// Every function is collective: all ranks call it in the same order. Errors: Error(io) with MPI's text; when a
// rank dies, mpirun ends the job.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "comm/mpi.hpp"
#include "core/layout.hpp"

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
  // `ranks`: those of the site, the whole job as a rule.
  explicit SiteComm(MPI_Comm ranks = MPI_COMM_WORLD);
  ~SiteComm();
  SiteComm(const SiteComm&) = delete;
  SiteComm& operator=(const SiteComm&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool leader() const { return rank_ == 0; }
  // Ranks on this rank's machine, this rank's place among them, and the machines of all ranks.
  int node_size() const { return node_size_; }
  int node_rank() const { return node_rank_; }
  bool node_leader() const { return node_rank_ == 0; }
  int nodes() const { return nodes_; }

  // Every rank has a vector of the same length, and `parts` says which rank owns which part of it.
  // sum_to_owners: an owner's part = Σ over ranks of that part, in place; the other parts keep what they hold. The order of
  // additions is fixed by the number of ranks: repeats are bit-identical.
  void sum_to_owners(std::span<float> values, std::span<const OwnedPart> parts);
  // Every part := its owner's.
  void share_from_owners(std::span<float> values, std::span<const OwnedPart> parts);

  // One vector of which each rank holds the part that starts at `first`; parts do not overlap and may be empty.
  // `whole` counts on the rank alone that has it; gather: `part` may lie at its place in there already.
  void gather(int to, std::span<const float> part, std::int64_t first, std::span<float> whole);
  void scatter_from_leader(std::span<const float> whole, std::int64_t first, std::span<float> part);

  double max(double value);
  double min(double value);
  double sum(double value);  // added in rank order: bit-identical repeats
  void sum(std::span<double> values);
  // The texts of all ranks of this machine, by rank; longer than 63 bytes: cut.
  std::vector<std::string> gather_on_node(const std::string& text);
  bool any(bool value);
  bool all(bool value);
  void barrier();

  // The leader's bytes to all, however many.
  void broadcast_bytes(std::span<std::byte> bytes);
  template <class T>
  void broadcast(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(std::as_writable_bytes(std::span(&value, 1)));
  }

 private:
  // Where each rank's part of a vector lies; on the rank `root`.
  struct Extent {
    std::int64_t first, count;
  };
  std::vector<Extent> extents_on(int root, std::int64_t first, std::size_t count);
  void wait(MPI_Request& request);
  void wait(std::vector<MPI_Request>& requests);
  double reduce(double value, MPI_Op operation);

  MpiSession session_;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  MPI_Comm node_ = MPI_COMM_NULL;  // the ranks of this machine
  int rank_ = 0, size_ = 1, node_rank_ = 0, node_size_ = 1, nodes_ = 1;
};

}  // namespace spillway
