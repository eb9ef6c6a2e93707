#include "core/arena.hpp"

#include <memory>
#include <string>
#include <vector>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

// A device with little memory that counts what is in use.
struct TinyDevice {
  static constexpr const char* name = "tiny";
  std::vector<std::byte> memory = std::vector<std::byte>(4096 + 256);
  int in_use = 0;

  void* allocate(std::size_t bytes) {
    if (bytes > 4096) throw std::bad_alloc();
    ++in_use;
    void* start = memory.data();
    std::size_t space = memory.size();
    return std::align(256, bytes, start, space);
  }
  void release(void*) noexcept { --in_use; }
};

}  // namespace

TEST_CASE("an arena places its arrays apart and aligned, in one allocation") {
  TinyDevice device;
  {
    Arena<TinyDevice> arena(device, "test");
    char* small = nullptr;
    double* large = nullptr;
    int* none = reinterpret_cast<int*>(&device);
    arena.reserve(small, 3);
    arena.reserve(large, 100);
    arena.reserve(none, 0);
    CHECK(arena.use().role == "test");
    CHECK(arena.use().bytes == 256 + 1024);
    arena.allocate();
    CHECK(device.in_use == 1);
    CHECK(reinterpret_cast<char*>(large) - small == 256);
    CHECK(reinterpret_cast<std::uintptr_t>(large) % 256 == 0);
    CHECK(none == nullptr);
  }
  CHECK(device.in_use == 0);
}

TEST_CASE("an arena without memory names its role and the remedy") {
  TinyDevice device;
  Arena<TinyDevice> arena(device, "activations");
  float* pointer = nullptr;
  arena.reserve(pointer, std::int64_t{1} << 20);
  try {
    arena.allocate();
    FAIL("allocated");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    CHECK(std::string(error.what()) ==
          "out of tiny memory: activations need 4.0 MiB; reduce train.micro-batch or the model's sizes");
  }
  CHECK(pointer == nullptr);
}
