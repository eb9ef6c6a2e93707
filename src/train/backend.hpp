// What differs between devices in a training step: how ranks exchange gradients and parameters, and what happens before the
// first step. The same calls in the same order on every rank of the site.
#pragma once

#include <cstdint>
#include <deque>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "comm/site.hpp"
#include "kernels/cpu/device.hpp"
#include "optim/division.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "comm/nccl.hpp"
#include "core/log.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/pinned.hpp"
#endif

namespace spillway {

template <class Dev>
class Backend;

// On the CPU, where the processor computes and copies alike, ranks exchange their gradients when all are there.
template <>
class Backend<Cpu> {
 public:
  Backend(Cpu&, SiteComm& site, const ParameterLayout& layout)
      : site_(site),
        parts_(divide_parameters(layout, site.size())),
        total_(static_cast<std::size_t>(layout.total)) {}

  const std::vector<OwnedPart>& parts() const { return parts_; }
  // The gradients of [begin, end) are final on this rank.
  void gradients_ready(float*, std::int64_t, std::int64_t) {}
  // From here on each owner has the sums of its parts.
  void sum_gradients(float* gradients) { site_.sum_to_owners({gradients, total_}, parts_); }
  // *value = Σ over ranks
  void sum(float* value) { *value = static_cast<float>(site_.sum(static_cast<double>(*value))); }
  // Every part := its owner's.
  void share(float* master, std::span<const OwnedPart> parts) {
    site_.share_from_owners({master, total_}, parts);
  }
  void pin(std::span<float>) {}
  void describe_start() const {}

 private:
  SiteComm& site_;
  std::vector<OwnedPart> parts_;
  std::size_t total_;
};

#ifdef SPILLWAY_HAVE_CUDA
// On GPUs the sums of a bucket of gradients run beside the rest of the backward pass.
template <>
class Backend<Cuda> {
 public:
  Backend(Cuda& device, SiteComm& site, const ParameterLayout& layout)
      : device_(device), parts_(divide_parameters(layout, site.size())), site_(site, device.stream()) {}

  const std::vector<OwnedPart>& parts() const { return parts_; }
  void gradients_ready(float* gradients, std::int64_t begin, std::int64_t end) {
    site_.sum_to_owners(gradients, begin, end, parts_);
  }
  void sum_gradients(float*) { site_.join(); }
  void sum(float* value) { site_.sum(value); }
  void share(float* master, std::span<const OwnedPart> parts) { site_.share_from_owners(master, parts); }
  void pin(std::span<float> host) {
    try {
      pinned_.emplace_back(host.data(), host.size_bytes());
    } catch (const std::bad_alloc&) {
      log_warning("{:.1f} GiB of shared memory cannot be pinned: merges will hold up training for longer",
                  static_cast<double>(host.size_bytes()) / (1 << 30));
    }
  }
  // Logs the plans that the rehearsal chose.
  void describe_start() const {
    std::istringstream plans(device_.describe_plans());
    for (std::string line; std::getline(plans, line);) log_info("{}", line);
  }

 private:
  Cuda& device_;
  std::vector<OwnedPart> parts_;
  GpuSite site_;
  std::deque<PinnedRange> pinned_;
};
#endif

}  // namespace spillway
