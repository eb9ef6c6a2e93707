// Signs of life between the gateways of an epoch, and their agreement to start an exchange.
//
// Each member sends every other one a number now and then: the digest of the exchange that it is prepared for, or 0.
// A member starts an exchange once everybody who takes part has announced the same digest; so a slow leader does not
// look like a stalled exchange, and members with different orders never exchange.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/mpi.hpp"

namespace spillway {

class Pulse {
 public:
  // Works on a duplicate of `communicator`; collective. Errors of all functions: Error(io) with MPI's text.
  Pulse(MPI_Comm communicator, double interval_s, double silence_s);

  // Announces a digest to all; 0: none any more.
  void announce(std::uint64_t digest);
  // Sends and receives what is due, without waiting. Call often.
  void step();
  bool announced_by(const std::vector<int>& ranks, std::uint64_t digest) const;
  // The member heard from longest ago, if that is longer ago than `silence_s`.
  std::optional<int> silent() const;
  // Everybody counts as heard from now: after a time in which others had reasons to be silent.
  void forgive();

 private:
  struct Peer {
    MPI_Request sending = MPI_REQUEST_NULL;
    std::uint64_t outgoing = 0;  // buffer of `sending`
    std::uint64_t announced = 0;
    double sent_s = 0, heard_s = 0;
    bool due = true;
  };

  MPI_Comm communicator_ = MPI_COMM_NULL;  // not freed: a gateway that ends in doubt must not talk any more
  int rank_ = 0;
  double interval_s_, silence_s_;
  std::uint64_t own_ = 0;
  std::vector<Peer> peers_;
};

}  // namespace spillway
