// The digest of a data folder: the same tokens give the same, however they are cut; other tokens another.
#include "data/identity.hpp"

#include <set>

#include "core/error.hpp"
#include "data/shard.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

std::vector<std::uint16_t> tokens(std::size_t count, unsigned seed) {
  std::vector<std::uint16_t> values(count);
  for (auto& value : values) value = static_cast<std::uint16_t>((seed = seed * 1664525 + 1013904223) >> 20);
  return values;
}

std::string digest_of(const std::vector<std::uint16_t>& train, const std::vector<std::uint16_t>& val,
                      std::size_t shard_tokens = 100'000'000) {
  const TemporaryFolder folder;
  write_shards(folder.path(), "train", train, shard_tokens);
  write_shards(folder.path(), "val", val);
  return data_digest(folder.path());
}

}  // namespace

TEST_CASE("the data digest tells folders with other tokens apart") {
  const auto train = tokens(5000, 1), val = tokens(300, 2);
  const std::string digest = digest_of(train, val);
  CHECK(digest.size() == 32);
  CHECK(digest_of(train, val, 777) == digest);
  std::set<std::string> digests = {digest, digest_of(val, train), digest_of(train, train)};
  auto changed = train;
  changed[4999] ^= 1;
  digests.insert(digest_of(changed, val));
  changed = train;
  changed.pop_back();
  digests.insert(digest_of(changed, val));
  CHECK(digests.size() == 5);
}

TEST_CASE("the data digest of a long stream looks at stretches from its beginning to its end") {
  auto train = tokens((std::size_t{1} << 24) + 5000, 3);
  const auto val = tokens(300, 2);
  const std::string digest = digest_of(train, val);
  CHECK(digest_of(train, val, 10'000'000) == digest);
  std::swap(train[0], train[1]);
  train[0] ^= 1;
  CHECK(digest_of(train, val) != digest);
  CHECK(digest_of(tokens(train.size(), 4), val) != digest);
}

TEST_CASE("a folder without shards has no digest") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(data_digest(folder.path()), Error);
}
