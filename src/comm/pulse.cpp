#include "comm/pulse.hpp"

#include <algorithm>

#include "core/clock.hpp"

namespace spillway {

Pulse::Pulse(MPI_Comm communicator, double interval_s, double silence_s)
    : interval_s_(interval_s), silence_s_(silence_s) {
  int size = 0;
  check_mpi(MPI_Comm_dup(communicator, &communicator_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(communicator_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(communicator_, &size), "MPI_Comm_size");
  peers_.resize(static_cast<std::size_t>(size));
  forgive();
}

void Pulse::announce(std::uint64_t digest) {
  own_ = digest;
  for (Peer& peer : peers_) peer.due = true;
  step();
}

void Pulse::step() {
  const double now_s = monotonic_s();
  for (int rank = 0; rank < static_cast<int>(peers_.size()); ++rank) {
    Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (rank == rank_ || (!peer.due && now_s - peer.sent_s < interval_s_)) continue;
    int idle = 1;
    if (peer.sending != MPI_REQUEST_NULL)
      check_mpi(MPI_Test(&peer.sending, &idle, MPI_STATUS_IGNORE), "MPI_Test");
    if (!idle) continue;
    peer.outgoing = own_;
    peer.sent_s = now_s;
    peer.due = false;
    check_mpi(MPI_Isend(&peer.outgoing, 1, MPI_UINT64_T, rank, 0, communicator_, &peer.sending), "MPI_Isend");
  }
  for (;;) {
    int waiting = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, 0, communicator_, &waiting, &status), "MPI_Iprobe");
    if (!waiting) return;
    Peer& peer = peers_[static_cast<std::size_t>(status.MPI_SOURCE)];
    check_mpi(
        MPI_Recv(&peer.announced, 1, MPI_UINT64_T, status.MPI_SOURCE, 0, communicator_, MPI_STATUS_IGNORE),
        "MPI_Recv");
    peer.heard_s = now_s;
  }
}

bool Pulse::announced_by(const std::vector<int>& ranks, std::uint64_t digest) const {
  return std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
    return (rank == rank_ ? own_ : peers_[static_cast<std::size_t>(rank)].announced) == digest;
  });
}

std::optional<int> Pulse::silent() const {
  std::optional<int> worst;
  double longest_s = silence_s_;
  for (int rank = 0; rank < static_cast<int>(peers_.size()); ++rank) {
    const double silence_s = monotonic_s() - peers_[static_cast<std::size_t>(rank)].heard_s;
    if (rank == rank_ || silence_s <= longest_s) continue;
    longest_s = silence_s;
    worst = rank;
  }
  return worst;
}

void Pulse::forgive() {
  for (Peer& peer : peers_) peer.heard_s = monotonic_s();
}

}  // namespace spillway
