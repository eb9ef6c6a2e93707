// Host memory that the GPU reads and writes at the full speed of the bus. No CUDA syntax: src/ includes this.
#pragma once

#include <cstddef>

namespace spillway {

class PinnedMemory {
 public:
  // Uninitialized. Throws std::bad_alloc where so much cannot be pinned.
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  void* data() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

// The same for memory that someone else keeps, as long as this lives.
class PinnedRange {
 public:
  // Throws std::bad_alloc where it cannot be pinned.
  PinnedRange(void* memory, std::size_t bytes);
  ~PinnedRange();
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;

 private:
  void* memory_;
};

}  // namespace spillway
