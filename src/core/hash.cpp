#include "core/hash.hpp"

#include <fmt/core.h>
#include <xxhash.h>

namespace spillway {

void Xxh3::Free::operator()(void* state) const { XXH3_freeState(static_cast<XXH3_state_t*>(state)); }

Xxh3::Xxh3() : state_(XXH3_createState()) { XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_.get())); }

void Xxh3::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_.get()), bytes.data(), bytes.size());
}

std::string Xxh3::hex() const {
  const XXH128_hash_t digest = XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_.get()));
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

std::string xxh3_hex(std::initializer_list<std::span<const std::byte>> parts) {
  Xxh3 digest;
  for (const auto part : parts) digest.add(part);
  return digest.hex();
}

}  // namespace spillway
