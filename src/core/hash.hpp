// XXH3-128 digests: fast, not cryptographic; against accidents, not against adversaries.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

namespace spillway {

// A digest over bytes that come in pieces.
class Xxh3 {
 public:
  Xxh3();
  void add(std::span<const std::byte> bytes);
  std::string hex() const;  // 32 lower-case hex digits over all bytes so far

 private:
  struct Free {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, Free> state_;
};

// 32 lower-case hex digits over the concatenation of the parts.
std::string xxh3_hex(std::initializer_list<std::span<const std::byte>> parts);

inline std::span<const std::byte> bytes_of(std::span<const float> values) { return std::as_bytes(values); }
inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace spillway
