// Averages over the GPUs of one site through NCCL: one rank per GPU, on the stream that the rank's kernels use.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/site.hpp"

struct CUstream_st;  // what cudaStream_t points to

namespace spillway {

class GpuAverage {
 public:
  // Collective over the site. `stream` belongs to the GPU that is current in this thread; it must outlive this object.
  // A site of one rank needs no NCCL. Throws Error(usage) where ranks > 1 and this build has no NCCL, Error(io) with
  // NCCL's reason where the GPUs do not find each other (e.g. two ranks on one GPU).
  GpuAverage(SiteComm& site, CUstream_st* stream);
  ~GpuAverage();
  GpuAverage(const GpuAverage&) = delete;
  GpuAverage& operator=(const GpuAverage&) = delete;

  // values = (Σ over ranks of values)/size, in place, device memory, queued on the stream. Collective.
  // The order of additions is NCCL's: the same for the same GPUs and count.
  void average(float* values, std::int64_t count);

 private:
  struct Communicator;
  std::unique_ptr<Communicator> communicator_;  // null on a site of one rank
};

}  // namespace spillway
