// Sums and copies of long vectors between the members of a communicator, over MPI's point-to-point messages.
//
// Why not MPI_Allreduce: it blocks for ever when a member dies, its result may differ between members, and the
// ring below is 3 to 10 times faster over long links (inter-site.md, table "Throughput").
//
// Vectors travel in segments; `window` of them are on the way at a time, so that a link stays full whatever its
// delay. Nothing blocks inside MPI. Every member calls the same function with the same sizes.
// Errors: Error(io) "exchange: …" after `deadline_s` without a completed segment, on `abort`, or from MPI. The
// communicator is then unusable, and so is the vector: messages may still arrive in it. The process must end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/mpi.hpp"
#include "comm/wire.hpp"

namespace spillway {

// Memory for messages under way. Whoever exchanges often keeps it from one exchange to the next: pages that are new to the
// process cost as much as what is sent from them.
class Staging {
 public:
  // At least so many bytes; the same ones as before where those suffice.
  std::byte* take(std::size_t bytes);

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
};

struct ExchangeOptions {
  double deadline_s = 0;                  // without progress; 0: wait for ever
  std::function<bool()> abort;            // polled between messages; true ends the exchange; may be empty
  std::int64_t segment_floats = 1 << 20;  // 4 MiB; at most: a ring takes shorter ones of a short vector
  int window = 8;  // of the longest segments in fp32; of shorter ones more, as many bytes
  bool assistant =
      false;  // a thread beside MPI's does the sums and conversions, so that messages never wait for them
  Staging* staging = nullptr;  // of rings; not to be freed when an exchange fails
};

// How a ring writes its partial sums on the link.
struct RingWire {
  WireFormat format = WireFormat::fp32;
  // Error feedback, as long as the values, or empty. In: what this member's rounding kept back in the last sum; it is
  // added to the member's part. Out: what its rounding keeps back now. Unchanged in an exchange of one member.
  std::span<float> feedback = {};
};

// Part number `part` of `parts` that share out a vector. Of whole pages of memory, and so of a WireFormat's blocks, but for
// the last that is not empty.
std::span<float> part_of(std::span<float> values, int part, int parts);

// values = Σ over members of weight · values, in place. Bit-identical on all members; depends on the number of
// members, their weights and the wire format alone, not on timing. Segmented ring: reduce-scatter, then all-gather,
// each member sends and receives 2·(N−1)/N of the vector. A member of weight 0 adds nothing, whatever its values hold.
// With another format than fp32 each hop rounds the partial sum that it sends, and the last one the sum.
void ring_weighted_sum(std::span<float> values, float weight, MPI_Comm communicator,
                       const ExchangeOptions& options, RingWire wire = {});

// values of `root` to the targets, in place: a chain root → target → target …, pipelined by segments.
// Members that are neither return at once.
void chain_broadcast(std::span<float> values, int root, const std::vector<int>& targets,
                     MPI_Comm communicator, const ExchangeOptions& options);

}  // namespace spillway
