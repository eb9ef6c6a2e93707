// SiteComm's exchanges of arrays on the GPUs of one site, through NCCL: one rank per GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "comm/site.hpp"

struct CUstream_st;  // what cudaStream_t points to

namespace spillway {

// Work goes to a stream of its own, so that it overlaps with the rank's kernels on `stream`; every call says how the two are
// ordered, and none waits on the host. All are collective over the site and do nothing on a site of one rank.
// The order of additions is NCCL's: the same for the same GPUs and sizes. Device memory.
class GpuSite {
 public:
  // Collective. `stream` belongs to the GPU that is current in this thread; it must outlive this object. A site of one rank
  // needs no NCCL. Throws Error(usage) where ranks > 1 and this build has no NCCL, Error(io) with NCCL's reason where
  // the GPUs do not find each other (e.g. two ranks on one GPU).
  GpuSite(SiteComm& site, CUstream_st* stream);
  ~GpuSite();
  GpuSite(const GpuSite&) = delete;
  GpuSite& operator=(const GpuSite&) = delete;

  // As SiteComm::sum_to_owners on the parts' parts within [begin, end) of `values`: starts when what `stream` has been
  // given so far is done, while `stream` goes on.
  void sum_to_owners(float* values, std::int64_t begin, std::int64_t end, std::span<const OwnedPart> parts);
  // Everything that `stream` is given from here on waits for the exchanges so far.
  void join();
  // *value = Σ over ranks, the same on all, in the order of `stream`.
  void sum(float* value);
  // As SiteComm::share_from_owners, in the order of `stream`.
  void share_from_owners(float* values, std::span<const OwnedPart> parts);

 private:
  struct Communicator;
  std::unique_ptr<Communicator> communicator_;  // null on a site of one rank
};

}  // namespace spillway
