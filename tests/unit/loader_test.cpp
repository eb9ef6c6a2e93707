#include "data/loader.hpp"

#include <set>
#include <span>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

// A folder with the tokens 0, 1, 2, … as training text in two shards and 100, 101, … as held-out text.
void write_counting_text(const std::filesystem::path& folder, int train_tokens, int val_tokens) {
  std::vector<std::uint16_t> tokens(static_cast<std::size_t>(train_tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::uint16_t>(i);
  const std::size_t cut = tokens.size() / 3;
  write_shard(folder / "train_000000.bin", std::span(tokens).first(cut));
  write_shard(folder / "train_000001.bin", std::span(tokens).subspan(cut));
  std::vector<std::uint16_t> held_out(static_cast<std::size_t>(val_tokens));
  for (std::size_t i = 0; i < held_out.size(); ++i) held_out[i] = static_cast<std::uint16_t>(100 + i);
  write_shard(folder / "val_000000.bin", held_out);
}

}  // namespace

TEST_CASE("the shuffle is a bijection that differs between seeds and epochs") {
  for (const std::int64_t blocks : {1, 2, 3, 7, 64, 65, 1000}) {
    INFO(blocks << " blocks");
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < blocks; ++i) seen.insert(shuffled_block(i, blocks, 5, 2));
    REQUIRE(seen.size() == static_cast<std::size_t>(blocks));
    REQUIRE(*seen.begin() == 0);
    REQUIRE(*seen.rbegin() == blocks - 1);
  }
  int same_epoch = 0, same_seed = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    same_epoch += shuffled_block(i, 1000, 5, 0) == shuffled_block(i, 1000, 5, 1);
    same_seed += shuffled_block(i, 1000, 5, 0) == shuffled_block(i, 1000, 6, 0);
  }
  REQUIRE(same_epoch < 20);
  REQUIRE(same_seed < 20);
}

TEST_CASE("an epoch reads every token once, across shards") {
  const TemporaryFolder folder;
  write_counting_text(folder.path(), 321, 50);
  const Loader loader(folder.path(), 8, 32, 100, 3);  // 10 blocks of 4 sequences of 8
  REQUIRE(loader.blocks_per_epoch() == 10);
  std::multiset<int> seen;
  std::vector<std::int32_t> tokens(32), targets(32);
  for (std::int64_t block = 10; block < 20; ++block) {  // the second epoch
    loader.fill(block, 0, 1, tokens.data(), targets.data());
    loader.fill(block, 1, 3, tokens.data() + 8, targets.data() + 8);
    for (std::size_t i = 0; i < 32; ++i) REQUIRE(targets[i] == tokens[i] + 1);
    seen.insert(tokens.begin(), tokens.end());
  }
  REQUIRE(seen.size() == 320);
  for (int token = 0; token < 320; ++token) REQUIRE(seen.count(token) == 1);
}

TEST_CASE("validation reads the held-out stream in order") {
  const TemporaryFolder folder;
  write_counting_text(folder.path(), 100, 50);
  const Loader loader(folder.path(), 8, 32, 1000, 3);
  REQUIRE(loader.validation_tokens() == 48);
  REQUIRE(loader.validation_batches(4) == 2);
  std::vector<std::int32_t> tokens(32), targets(32);
  REQUIRE(loader.fill_validation(1, 4, tokens.data(), targets.data()) == 2);
  REQUIRE(tokens[0] == 132);
  REQUIRE(targets[15] == 148);
  REQUIRE_FALSE(loader.validation_bytes_per_token().has_value());
  REQUIRE(loader.vocab() == 192);  // 149 + 1 rounded up to a multiple of 64
}

TEST_CASE("data that cannot be trained on is refused with a remedy") {
  const TemporaryFolder folder;
  const std::string name = folder.path().string();
  REQUIRE_THROWS_WITH(Loader(folder.path(), 8, 32, 100, 3),
                      "data.dir " + name + ": no shards train_*.bin; make them with spillway tokenize");
  REQUIRE_THROWS_WITH(
      Loader(folder.path() / "missing", 8, 32, 100, 3),
      "data.dir " + name + "/missing: No such file or directory; make it with spillway tokenize");
  write_counting_text(folder.path(), 32, 50);
  REQUIRE_THROWS_WITH(Loader(folder.path(), 8, 32, 100, 3),
                      "data.dir " + name +
                          ": 32 training tokens are fewer than one step of train.tokens-per-step = 32 needs");
  REQUIRE_THROWS_WITH(Loader(folder.path(), 8, 36, 100, 3),
                      "train.tokens-per-step = 36: must be a positive multiple of model.sequence = 8");
}

TEST_CASE("with data.json the vocabulary and the bytes of the held-out text are known") {
  const TemporaryFolder folder;
  write_counting_text(folder.path(), 100, 50);
  DataInfo info;
  info.vocab = 150;
  info.train_tokens = 100;
  info.val_tokens = 50;
  info.token_bytes.assign(150, 2);
  info.token_bytes[101] = 50;  // the first target of the held-out text
  write_data_info(folder.path(), info);
  const Loader loader(folder.path(), 8, 32, 20, 3);
  REQUIRE(loader.vocab() == 150);
  REQUIRE(loader.validation_tokens() == 16);
  REQUIRE(loader.validation_bytes_per_token().value() == Approx((15 * 2 + 50) / 16.0));
}

TEST_CASE("tokens outside the vocabulary are refused when they are read") {
  const TemporaryFolder folder;
  write_counting_text(folder.path(), 100, 50);
  DataInfo info;
  info.vocab = 90;
  info.train_tokens = 100;
  info.val_tokens = 50;
  info.token_bytes.assign(90, 1);
  write_data_info(folder.path(), info);
  const auto refusal = [&](int token) {
    return "data.dir " + folder.path().string() + ": token " + std::to_string(token) +
           " is outside data.json's vocabulary of 90; run spillway tokenize again";
  };
  REQUIRE_THROWS_WITH(Loader(folder.path(), 8, 32, 48, 3), refusal(148));
  write_shard(folder.path() / "val_000000.bin", std::vector<std::uint16_t>(50, 7));
  const Loader loader(folder.path(), 8, 32, 48, 3);
  std::vector<std::int32_t> tokens(32), targets(32);
  int refused = 0;
  for (std::int64_t block = 0; block < 3; ++block) {
    try {
      loader.fill(block, 0, 4, tokens.data(), targets.data());
    } catch (const Error& error) {
      REQUIRE(error.what() == refusal(95));  // 88 to 95 are read by one sequence
      ++refused;
    }
  }
  REQUIRE(refused == 1);
}

TEST_CASE("shards of another run beside data.json are refused") {
  const TemporaryFolder folder;
  write_counting_text(folder.path(), 100, 50);
  DataInfo info;
  info.vocab = 150;
  info.train_tokens = 33;
  info.val_tokens = 50;
  info.token_bytes.assign(150, 1);
  write_data_info(folder.path(), info);
  REQUIRE_THROWS_WITH(
      Loader(folder.path(), 8, 32, 48, 3),
      "data.dir " + folder.path().string() +
          ": the shards hold 100 + 50 tokens, data.json counts 33 + 50; empty the folder and run "
          "spillway tokenize again");
}
