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

}  // namespace spillway
