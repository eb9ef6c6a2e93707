#include "comm/nccl.hpp"

#include "core/error.hpp"

#ifdef SPILLWAY_HAVE_NCCL

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <cstdio>

namespace spillway {
namespace {

void check_nccl(ncclResult_t status, const char* call) {
  if (status != ncclSuccess) fail(ExitCode::io, "NCCL: {} in {}", ncclGetErrorString(status), call);
}

void check_cuda(cudaError_t status, const char* call) {
  if (status != cudaSuccess) fail(ExitCode::io, "CUDA: {} in {}", cudaGetErrorString(status), call);
}

void note(bool good, const char* what) noexcept {
  if (!good) std::fprintf(stderr, "NCCL: %s could not be destroyed\n", what);
}

}  // namespace

struct GpuSite::Communicator {
  explicit Communicator(CUstream_st* rank_stream) : compute(rank_stream) {}
  ~Communicator() {
    if (handle != nullptr) note(ncclCommDestroy(handle) == ncclSuccess, "the communicator");
    if (reached != nullptr) note(cudaEventDestroy(reached) == cudaSuccess, "an event");
    if (own != nullptr) note(cudaStreamDestroy(own) == cudaSuccess, "the stream");
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  void open(SiteComm& site) {
    ncclUniqueId id{};
    if (site.leader()) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    site.broadcast(id);
    check_nccl(ncclCommInitRank(&handle, site.size(), id, site.rank()), "ncclCommInitRank");
    // Ahead of the kernels that wait for a multiprocessor, or a bucket would start when the backward pass is over.
    int lowest = 0, highest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    check_cuda(cudaStreamCreateWithPriority(&own, cudaStreamNonBlocking, highest),
               "cudaStreamCreateWithPriority");
    check_cuda(cudaEventCreateWithFlags(&reached, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }

  // Later work of `waiting` starts when what `first` has been given so far is done.
  void order(CUstream_st* first, CUstream_st* waiting) {
    check_cuda(cudaEventRecord(reached, first), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(waiting, reached, 0), "cudaStreamWaitEvent");
  }

  ncclComm_t handle = nullptr;
  CUstream_st* compute;
  cudaStream_t own = nullptr;
  cudaEvent_t reached = nullptr;
};

GpuSite::GpuSite(SiteComm& site, CUstream_st* stream) {
  if (site.size() == 1) return;
  communicator_ = std::make_unique<Communicator>(stream);
  communicator_->open(site);
}

GpuSite::~GpuSite() = default;

void GpuSite::sum_to_owners(float* values, std::int64_t begin, std::int64_t end,
                            std::span<const OwnedPart> parts) {
  if (!communicator_) return;
  communicator_->order(communicator_->compute, communicator_->own);
  check_nccl(ncclGroupStart(), "ncclGroupStart");
  for (const OwnedPart& part : parts) {
    const std::int64_t first = std::max(begin, part.begin), last = std::min(end, part.end);
    if (first >= last) continue;
    check_nccl(ncclReduce(values + first, values + first, static_cast<std::size_t>(last - first), ncclFloat,
                          ncclSum, part.owner, communicator_->handle, communicator_->own),
               "ncclReduce");
  }
  check_nccl(ncclGroupEnd(), "ncclGroupEnd");
}

void GpuSite::join() {
  if (communicator_) communicator_->order(communicator_->own, communicator_->compute);
}

void GpuSite::sum(float* value) {
  if (!communicator_) return;
  check_nccl(
      ncclAllReduce(value, value, 1, ncclFloat, ncclSum, communicator_->handle, communicator_->compute),
      "ncclAllReduce");
}

void GpuSite::share_from_owners(float* values, std::span<const OwnedPart> parts) {
  if (!communicator_) return;
  check_nccl(ncclGroupStart(), "ncclGroupStart");
  for (const OwnedPart& part : parts)
    check_nccl(ncclBroadcast(values + part.begin, values + part.begin,
                             static_cast<std::size_t>(part.end - part.begin), ncclFloat, part.owner,
                             communicator_->handle, communicator_->compute),
               "ncclBroadcast");
  check_nccl(ncclGroupEnd(), "ncclGroupEnd");
}

}  // namespace spillway

#else

namespace spillway {

struct GpuSite::Communicator {};

GpuSite::GpuSite(SiteComm& site, CUstream_st*) {
  if (site.size() > 1)
    fail(ExitCode::usage, "train.device = cuda with {} ranks: this build has no NCCL; start one rank",
         site.size());
}
GpuSite::~GpuSite() = default;
// A site of one rank has nothing to exchange.
void GpuSite::sum_to_owners(float*, std::int64_t, std::int64_t, std::span<const OwnedPart>) {}
void GpuSite::join() {}
void GpuSite::sum(float*) {}
void GpuSite::share_from_owners(float*, std::span<const OwnedPart>) {}

}  // namespace spillway

#endif
