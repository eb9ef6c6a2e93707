#include "core/hash.hpp"

#include <fmt/core.h>
#include <xxhash.h>

#include <memory>

namespace spillway {

std::string xxh3_hex(std::initializer_list<std::span<const std::byte>> parts) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for (const auto part : parts) XXH3_128bits_update(state.get(), part.data(), part.size());
  const XXH128_hash_t digest = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

}  // namespace spillway
