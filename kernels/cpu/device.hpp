// The CPU as a device: OpenBLAS and OpenMP threads, fp32 throughout.
#pragma once

#include <cstddef>

namespace spillway {

// Passed as the first argument of every op that is to run on the CPU.
struct Cpu {
  using Activation = float;  // type of activations and of the weights that GEMMs read
  static constexpr const char* name = "cpu";

  // Sets the number of threads of OpenMP and OpenBLAS. 0 keeps what OMP_NUM_THREADS or the machine says.
  explicit Cpu(int threads = 0);

  // 64-byte aligned. Throws std::bad_alloc where there is not enough memory.
  void* allocate(std::size_t bytes);
  void release(void* memory) noexcept;
  void set_zero(void* memory, std::size_t bytes);
  void copy_to_host(void* host, const void* device, std::size_t bytes);
  void copy_from_host(void* device, const void* host, std::size_t bytes);
  void copy_on_device(void* to, const void* from, std::size_t bytes);
  void synchronize() {}
  // Physical memory of the machine, bytes.
  static std::size_t total_bytes();
};

}  // namespace spillway
