#include "data/identity.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/hash.hpp"
#include "data/shard.hpp"

namespace spillway {
namespace {

constexpr std::int64_t kStretch_tokens = 1024, kStretches = 4096;
constexpr std::int64_t kWhole_tokens = std::int64_t{1} << 24;

}  // namespace

std::string data_digest(const std::filesystem::path& folder) {
  Xxh3 digest;
  for (const char* split : {"train", "val"}) {
    const TokenStream stream(folder, split);
    const std::int64_t size = stream.size();
    digest.add(std::as_bytes(std::span(&size, 1)));
    const std::int64_t stretches =
        size <= kWhole_tokens ? (size + kStretch_tokens - 1) / kStretch_tokens : kStretches;
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < stretches; ++i) {
      const std::int64_t first =
          size <= kWhole_tokens ? i * kStretch_tokens : (size - kStretch_tokens) / (kStretches - 1) * i;
      tokens.resize(static_cast<std::size_t>(std::min(kStretch_tokens, size - first)));
      stream.read(first, tokens);
      digest.add(std::as_bytes(std::span(tokens)));
    }
  }
  return digest.hex();
}

}  // namespace spillway
