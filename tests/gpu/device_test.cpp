// Copies, memory and errors of the device.
#include <new>
#include <stdexcept>
#include <string>

#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("copies larger than the staging buffers arrive whole") {
  const Vector values = random(1, 1700001);
  DeviceArray<float> from(values), to(1700001);
  device().copy_on_device(to.data(), from.data(), 1700001 * sizeof(float));
  CHECK(to.values() == from.values());
  device().set_zero(to.data(), 1700001 * sizeof(float));
  CHECK(to.values() == reference::zeros(1700001));
}

TEST_CASE("the host may reuse its memory as soon as a copy returns") {
  std::vector<float> host(1000);
  DeviceArray<float> target(64 * 1000);
  for (int i = 0; i < 64; ++i) {
    std::fill(host.begin(), host.end(), static_cast<float>(i));
    device().copy_from_host(target.data() + i * 1000, host.data(), host.size() * sizeof(float));
  }
  const Vector result = target.values();
  for (std::size_t i = 0; i < result.size(); ++i) REQUIRE(result[i] == static_cast<double>(i / 1000));
}

TEST_CASE("memory that does not exist is std::bad_alloc", "[refused]") {
  CHECK_THROWS_AS(device().allocate(device().total_bytes() * 2), std::bad_alloc);
  DeviceArray<float> still_works(16);
  device().set_zero(still_works.data(), 16 * sizeof(float));
  CHECK(still_works.values() == reference::zeros(16));
}

TEST_CASE("a GPU that does not exist is named") {
  try {
    Cuda device(Cuda::count());
    FAIL("no error");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()).find("GPU " + std::to_string(Cuda::count()) + " was asked for") !=
          std::string::npos);
  }
}

TEST_CASE("sizes that a kernel does not support are errors, not wrong results") {
  DeviceArray<bf16> x(100), h(100);
  DeviceArray<float> rstd(1);
  CHECK_THROWS_AS(
      mix_norm_forward(device(), h.data(), rstd.data(), x.data(), nullptr, nullptr, nullptr, 1, 100),
      std::runtime_error);
  CHECK_THROWS_AS(attention_forward(device(), h.data(), rstd.data(), x.data(), 1, 1, 1, 48),
                  std::runtime_error);
}
