#include "comm/nccl.hpp"

#include "core/error.hpp"

#ifdef SPILLWAY_HAVE_NCCL

#include <nccl.h>

#include <cstdio>

namespace spillway {
namespace {

void check_nccl(ncclResult_t status, const char* call) {
  if (status != ncclSuccess) fail(ExitCode::io, "NCCL: {} in {}", ncclGetErrorString(status), call);
}

}  // namespace

struct GpuAverage::Communicator {
  Communicator() = default;
  ~Communicator() {
    if (handle != nullptr && ncclCommDestroy(handle) != ncclSuccess)
      std::fprintf(stderr, "NCCL: the communicator could not be destroyed\n");
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  ncclComm_t handle = nullptr;
  CUstream_st* stream = nullptr;
};

GpuAverage::GpuAverage(SiteComm& site, CUstream_st* stream) {
  if (site.size() == 1) return;
  ncclUniqueId id{};
  if (site.leader()) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  site.broadcast(id);
  communicator_ = std::make_unique<Communicator>();
  communicator_->stream = stream;
  check_nccl(ncclCommInitRank(&communicator_->handle, site.size(), id, site.rank()), "ncclCommInitRank");
}

GpuAverage::~GpuAverage() = default;

void GpuAverage::average(float* values, std::int64_t count) {
  if (!communicator_) return;
  check_nccl(ncclAllReduce(values, values, static_cast<std::size_t>(count), ncclFloat, ncclAvg,
                           communicator_->handle, communicator_->stream),
             "ncclAllReduce");
}

}  // namespace spillway

#else

namespace spillway {

struct GpuAverage::Communicator {};

GpuAverage::GpuAverage(SiteComm& site, CUstream_st*) {
  if (site.size() > 1)
    fail(ExitCode::usage, "train.device = cuda with {} ranks: this build has no NCCL; start one rank",
         site.size());
}
GpuAverage::~GpuAverage() = default;
void GpuAverage::average(float*, std::int64_t) {}  // a site of one rank

}  // namespace spillway

#endif
