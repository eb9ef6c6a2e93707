// For the op tests, which are compiled twice: for the CPU (tests/kernels) and for CUDA (tests/gpu, with
// SPILLWAY_TEST_CUDA). Device arrays that betray unwritten and overrun elements, random inputs, and the error measure of the op tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/rng.hpp"
#include "kernels/ops.hpp"
#ifdef SPILLWAY_TEST_CUDA
#include "kernels/cuda/device.hpp"
#endif
#include "tests/catch.hpp"
#include "tests/kernels/reference.hpp"

namespace spillway::test {

using reference::Vector;

inline constexpr double kFloatTolerance = 1e-5;  // of ‖out − reference‖/‖reference‖

#ifdef SPILLWAY_TEST_CUDA
using Device = Cuda;
inline constexpr double kTolerance = 1e-2;           // of what the device computes in bf16
inline constexpr double kStatisticTolerance = 1e-4;  // of fp32 sums over bf16 products
#else
using Device = Cpu;
inline constexpr double kTolerance = kFloatTolerance;
inline constexpr double kStatisticTolerance = 1e-6;
#endif
using act = Device::Activation;

// One device for all tests of the process.
inline Device& device() {
  static Device instance(0);
  return instance;
}

// Standard normal values. The same (seed, count) gives the same values.
inline Vector random(std::uint64_t seed, std::int64_t count, double scale = 1) {
  Vector values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * normal01(seed, 1, i);
  return values;
}

inline reference::Tokens random_tokens(std::uint64_t seed, int count, int V) {
  reference::Tokens tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(uniform01(seed, 2, i) * static_cast<float>(V));
  return tokens;
}

template <class T>
T rounded_to(double value) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_bf16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}
inline double as_double(bf16 value) { return to_float(value); }
inline double as_double(float value) { return value; }
inline double as_double(std::int32_t value) { return value; }

// `count` elements on the device between two guards. Poisoned with NaN (all bits set) until written.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t count) : host_(static_cast<std::size_t>(count + 2 * kGuard)) {
    std::fill_n(reinterpret_cast<unsigned char*>(host_.data()), host_.size() * sizeof(T), 0xff);
    memory_ = static_cast<T*>(device().allocate(host_.size() * sizeof(T)));
    device().copy_from_host(memory_, host_.data(), host_.size() * sizeof(T));
  }
  // Rounds `values` to T; from then on values() is what the device has.
  template <class U>
  explicit DeviceArray(const std::vector<U>& values) : DeviceArray(static_cast<std::int64_t>(values.size())) {
    for (std::size_t i = 0; i < values.size(); ++i) host_[kGuard + i] = rounded_to<T>(values[i]);
    device().copy_from_host(memory_, host_.data(), host_.size() * sizeof(T));
  }
  ~DeviceArray() { device().release(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return memory_ + kGuard; }
  // What the device holds now. Fails the test if a guard was touched.
  Vector values() {
    device().copy_to_host(host_.data(), memory_, host_.size() * sizeof(T));
    const auto* bytes = reinterpret_cast<const unsigned char*>(host_.data());
    const std::size_t guard = kGuard * sizeof(T), end = host_.size() * sizeof(T);
    bool intact = true;
    for (std::size_t i = 0; i < guard; ++i) intact = intact && bytes[i] == 0xff && bytes[end - 1 - i] == 0xff;
    CHECK(intact);
    Vector result;
    for (std::size_t i = kGuard; i < host_.size() - kGuard; ++i) result.push_back(as_double(host_[i]));
    return result;
  }

 private:
  static constexpr std::int64_t kGuard = 64;  // elements; keeps data() 128-byte aligned or better
  std::vector<T> host_;
  T* memory_;
};

// ‖actual − expected‖/‖expected‖; infinite where an element is NaN or sizes differ; ‖actual‖ where all expected is 0.
inline double relative_error(const Vector& actual, const Vector& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(actual[i])) return std::numeric_limits<double>::infinity();
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
}

}  // namespace spillway::test
