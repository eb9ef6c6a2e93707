// Host memory for copies of a site's state, taken once and used for every checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "core/error.hpp"
#include "core/log.hpp"
#include "kernels/cpu/device.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/pinned.hpp"
#endif

namespace spillway {

// Floats in ordinary memory, uninitialized.
class PageableFloats {
 public:
  explicit PageableFloats(std::size_t count) : memory_(std::make_unique_for_overwrite<float[]>(count)) {}
  float* data() const { return memory_.get(); }

 private:
  std::unique_ptr<float[]> memory_;
};

// On CUDA the memory is pinned, so that the GPU copies at the full speed of the bus. Where that much cannot be pinned,
// the log says so and ordinary memory is taken.
template <class Dev>
class SnapshotMemory {
 public:
  // Makes room for so many floats and a staging area, and hands out from the beginning again.
  void reserve(std::int64_t floats, std::int64_t staging) {
    used_ = 0;
    if (floats + staging > size_) allocate(floats + staging);
    staging_ = {data_ + floats, static_cast<std::size_t>(staging)};
    end_ = floats;
  }
  std::span<float> take(std::int64_t floats) {
    SPILLWAY_CHECK(used_ + floats <= end_);
    const std::span<float> taken(data_ + used_, static_cast<std::size_t>(floats));
    used_ += floats;
    return taken;
  }
  std::span<float> staging() const { return staging_; }

 private:
  void allocate(std::int64_t floats) {
    const auto count = static_cast<std::size_t>(floats);
    pageable_.reset();
    data_ = nullptr;
    size_ = 0;
#ifdef SPILLWAY_HAVE_CUDA
    if constexpr (std::is_same_v<Dev, Cuda>) {
      pinned_.reset();
      try {
        pinned_ = std::make_unique<PinnedMemory>(count * sizeof(float));
        data_ = static_cast<float*>(pinned_->data());
      } catch (const std::bad_alloc&) {
        log_warning(
            "{:.1f} GiB of host memory cannot be pinned: checkpoints will hold up training for longer",
            static_cast<double>(count * sizeof(float)) / (1 << 30));
      }
    }
#endif
    if (data_ == nullptr) {
      pageable_ = std::make_unique<PageableFloats>(count);
      data_ = pageable_->data();
    }
    size_ = floats;
  }

#ifdef SPILLWAY_HAVE_CUDA
  std::unique_ptr<PinnedMemory> pinned_;
#endif
  std::unique_ptr<PageableFloats> pageable_;
  float* data_ = nullptr;
  std::int64_t size_ = 0, used_ = 0, end_ = 0;  // floats
  std::span<float> staging_;
};

}  // namespace spillway
