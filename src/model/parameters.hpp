// The weights and their gradients in device memory.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "core/arena.hpp"
#include "core/error.hpp"
#include "core/layout.hpp"
#include "kernels/ops.hpp"

namespace spillway {

// What a forward pass reads: the fp32 master and what the GEMMs multiply by, both in layout order on the device.
// Where Dev::Activation is float the two are the same memory.
template <class Dev>
struct Weights {
  const float* master = nullptr;
  const typename Dev::Activation* compute = nullptr;
};

// Owns the flat vectors of layout.total elements: master weights, the compute copy where the device needs one, gradients.
template <class Dev>
class Parameters {
 public:
  using Activation = typename Dev::Activation;
  static constexpr bool kHasComputeCopy = !std::is_same_v<Activation, float>;

  // The contents are undefined until load(). Throws Error(usage) where memory is short.
  Parameters(Dev& device, const ParameterLayout& layout, bool with_gradients)
      : device_(device),
        total_(layout.total),
        weights_(device, "weights"),
        gradients_arena_(device, "gradients") {
    weights_.reserve(master_, total_);
    weights_.reserve(compute_copy_, kHasComputeCopy ? total_ : 0);
    weights_.allocate();
    gradients_arena_.reserve(gradients_, with_gradients ? total_ : 0);
    gradients_arena_.allocate();
  }

  float* master() { return master_; }
  Activation* compute_copy() { return compute_copy_; }  // null where the GEMMs read the master itself
  float* gradients() { return gradients_; }             // null without gradients
  std::int64_t total() const { return total_; }

  Weights<Dev> weights() const {
    if constexpr (kHasComputeCopy)
      return {master_, compute_copy_};
    else
      return {master_, master_};
  }

  // From and to host memory, layout.total elements. load() makes the compute copy as well.
  void load(std::span<const float> host) {
    SPILLWAY_CHECK(static_cast<std::int64_t>(host.size()) == total_);
    device_.copy_from_host(master_, host.data(), host.size_bytes());
    refresh_compute_copy(0, total_);
  }
  void store(std::span<float> host) const {
    SPILLWAY_CHECK(static_cast<std::int64_t>(host.size()) == total_);
    device_.copy_to_host(host.data(), master_, host.size_bytes());
  }

  // master += host, by way of the gradients, whose contents are lost: between steps nobody needs them.
  void add(std::span<const float> host) {
    SPILLWAY_CHECK(static_cast<std::int64_t>(host.size()) == total_ && gradients_ != nullptr);
    device_.copy_from_host(gradients_, host.data(), host.size_bytes());
    spillway::add(device_, master_, gradients_, total_);
    refresh_compute_copy(0, total_);
  }

  // After something other than the optimizer has written the master's elements [begin, end).
  void refresh_compute_copy(std::int64_t begin, std::int64_t end) {
    if constexpr (kHasComputeCopy)
      cast_parameters(device_, compute_copy_ + begin, master_ + begin, end - begin);
  }

  std::vector<MemoryUse> memory_use() const { return {weights_.use(), gradients_arena_.use()}; }

 private:
  Dev& device_;
  std::int64_t total_;
  Arena<Dev> weights_, gradients_arena_;
  float* master_ = nullptr;
  Activation* compute_copy_ = nullptr;
  float* gradients_ = nullptr;
};

}  // namespace spillway
