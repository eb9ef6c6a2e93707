#include "kernels/cpu/device.hpp"

#include <cblas.h>
#include <omp.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace spillway {

Cpu::Cpu(int threads) {
  if (threads > 0) {
    omp_set_num_threads(threads);
    openblas_set_num_threads(threads);
  }
}

std::size_t Cpu::total_bytes() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

void* Cpu::allocate(std::size_t bytes) {
  constexpr std::size_t alignment = 64;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void Cpu::release(void* memory) noexcept { std::free(memory); }
void Cpu::set_zero(void* memory, std::size_t bytes) { std::memset(memory, 0, bytes); }
void Cpu::copy_to_host(void* host, const void* device, std::size_t bytes) {
  std::memcpy(host, device, bytes);
}
void Cpu::copy_from_host(void* device, const void* host, std::size_t bytes) {
  std::memcpy(device, host, bytes);
}
void Cpu::copy_on_device(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace spillway
