// Device memory: one allocation per role, planned before the first step, so that a run is out of memory at its start or never.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace spillway {

// One line of the memory report.
struct MemoryUse {
  std::string role;  // "activations"
  std::int64_t bytes = 0;
};

// Arrays of one role in one allocation. First reserve() each array, then allocate() once; the pointers given to reserve()
// are set by allocate() and stay valid as long as the arena. Neither the arena nor those pointers may move in between.
template <class Dev>
class Arena {
 public:
  Arena(Dev& device, std::string role) : device_(device), role_(std::move(role)) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    if (memory_ != nullptr) device_.release(memory_);
  }

  // Plans `count` elements for `pointer`. No elements: the pointer becomes null.
  template <class T>
  void reserve(T*& pointer, std::int64_t count) {
    SPILLWAY_CHECK(memory_ == nullptr && count >= 0);
    const std::int64_t offset = bytes_;
    pointer = nullptr;
    if (count == 0) return;
    pieces_.push_back([&pointer, offset](std::byte* base) { pointer = reinterpret_cast<T*>(base + offset); });
    bytes_ += (count * static_cast<std::int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Allocates what was planned; the contents are undefined. Throws Error(usage) naming the role where memory is short.
  void allocate() {
    SPILLWAY_CHECK(memory_ == nullptr);
    if (bytes_ == 0) return;
    try {
      memory_ = device_.allocate(static_cast<std::size_t>(bytes_));
    } catch (const std::bad_alloc&) {
      fail(ExitCode::usage,
           "out of {} memory: {} need {:.1f} MiB; reduce train.micro-batch or the model's sizes", Dev::name,
           role_, static_cast<double>(bytes_) / (1 << 20));
    }
    for (const auto& place : pieces_) place(static_cast<std::byte*>(memory_));
    pieces_.clear();
  }

  // Planned or allocated, with padding.
  MemoryUse use() const { return {role_, bytes_}; }

 private:
  // Whole cache lines, and what TMA and cuBLASLt ask of their operands.
  static constexpr std::int64_t kAlignment = 256;

  Dev& device_;
  std::string role_;
  std::vector<std::function<void(std::byte*)>> pieces_;
  std::int64_t bytes_ = 0;
  void* memory_ = nullptr;
};

// A device without memory: what is constructed on it plans its arenas and can be asked for memory_use(), nothing else.
template <class Dev>
struct PlanOnly {
  using Activation = typename Dev::Activation;
  static constexpr const char* name = Dev::name;
  void* allocate(std::size_t) { return this; }  // not null, never read
  void release(void*) noexcept {}
  void set_zero(void*, std::size_t) {}
};

inline std::int64_t total_bytes(const std::vector<MemoryUse>& uses) {
  std::int64_t bytes = 0;
  for (const MemoryUse& use : uses) bytes += use.bytes;
  return bytes;
}

}  // namespace spillway
