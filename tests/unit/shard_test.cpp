#include "data/shard.hpp"

#include <fstream>
#include <numeric>

#include "core/error.hpp"
#include "data/loader.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

std::vector<std::uint16_t> counting(std::size_t count, std::uint16_t first = 0) {
  std::vector<std::uint16_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Overwrites one of the 256 numbers of a shard's header.
void patch_header(const std::filesystem::path& file, int index, std::int32_t value) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(4 * index);
  stream.write(reinterpret_cast<const char*>(&value), 4);
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace

TEST_CASE("a shard has llm.c's layout and reads back") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "train_000000.bin";
  const std::vector<std::uint16_t> tokens = {0, 1, 513, 65535};
  write_shard(file, tokens);
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  REQUIRE(bytes.size() == 1024 + 8);
  const std::string header("\x88\xd8\x34\x01\x01\x00\x00\x00\x04\x00\x00\x00", 12);
  REQUIRE(bytes.substr(0, 12) == header);
  REQUIRE(bytes.substr(12, 1012) == std::string(1012, '\0'));
  REQUIRE(bytes.substr(1024) == std::string("\x00\x00\x01\x00\x01\x02\xff\xff", 8));
  const Shard shard(file);
  REQUIRE(std::vector<std::uint16_t>(shard.tokens().begin(), shard.tokens().end()) == tokens);
  REQUIRE(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // nothing temporary
}

TEST_CASE("a damaged, foreign or missing shard is refused by name") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "val_000000.bin";
  const std::string name = file.string();
  REQUIRE_THROWS_WITH(Shard(file), name + ": cannot be read: No such file or directory");
  write_shard(file, counting(50));
  std::filesystem::resize_file(file, 1024 + 60);
  REQUIRE_THROWS_WITH(Shard(file),
                      name + ": its header promises 50 tokens, the file holds 30: truncated or damaged");
  std::filesystem::resize_file(file, 1024 + 101);  // half a token more
  REQUIRE_THROWS_WITH(Shard(file),
                      name + ": its header promises 50 tokens, the file holds 50.5: truncated or damaged");
  std::filesystem::resize_file(file, 100);
  REQUIRE_THROWS_WITH(Shard(file), name + ": 100 bytes are too few for a token shard; is it truncated?");
  write_text(file, std::string(2000, 'x'));
  REQUIRE_THROWS_WITH(
      Shard(file),
      name + ": not a token shard: magic 2021161080 instead of 20240520; make one with spillway tokenize");

  write_shard(file, counting(50));
  patch_header(file, 1, 2);
  REQUIRE_THROWS_WITH(Shard(file), name + ": shard version 2; this program reads version 1");
  for (const std::int32_t claim : {-1, 49, 51, 0x7fffffff}) {
    write_shard(file, counting(50));
    patch_header(file, 2, claim);
    REQUIRE_THROWS_WITH(Shard(file), name + ": its header promises " + std::to_string(claim) +
                                         " tokens, the file holds 50: truncated or damaged");
  }
}

TEST_CASE("large token lists become several shards that read as one stream") {
  const TemporaryFolder folder;
  const auto tokens = counting(25);
  REQUIRE(write_shards(folder.path(), "train", tokens, 10) == 3);
  REQUIRE(Shard(folder.path() / "train_000002.bin").tokens().size() == 5);
  const TokenStream stream(folder.path(), "train");
  REQUIRE(stream.size() == 25);
  REQUIRE(stream.largest() == 24);
  for (int first = 0; first <= 25; ++first) {
    for (int count = 0; first + count <= 25; ++count) {
      std::vector<std::int32_t> out(static_cast<std::size_t>(count));
      stream.read(first, out);
      for (int i = 0; i < count; ++i) REQUIRE(out[static_cast<std::size_t>(i)] == first + i);
    }
  }
  std::vector<std::int32_t> beyond(2);
  REQUIRE_THROWS_AS(stream.read(24, beyond), Error);
}

TEST_CASE("shards are found by our names and llm.c's, in order") {
  const TemporaryFolder folder;
  write_shard(folder.path() / "fineweb_train_000002.bin", counting(1, 2));
  write_shard(folder.path() / "fineweb_train_000001.bin", counting(1, 1));
  write_shard(folder.path() / "fineweb_val_000000.bin", counting(1, 9));
  write_text(folder.path() / "train_notes.txt", "not a shard");
  write_text(folder.path() / "trainer.bin", "not a shard either");
  std::vector<std::int32_t> train(2), val(1);
  const TokenStream stream(folder.path(), "train");
  REQUIRE(stream.size() == 2);
  stream.read(0, train);
  REQUIRE(train == std::vector<std::int32_t>{1, 2});
  TokenStream(folder.path(), "val").read(0, val);
  REQUIRE(val[0] == 9);
}

TEST_CASE("data.json reads back, and a damaged one is refused by name") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "data.json";
  REQUIRE_FALSE(read_data_info(folder.path()).has_value());
  DataInfo info;
  info.vocab = 3;
  info.tokenizer = "tokenizer.model";
  info.tokenizer_digest = "0123";
  info.documents = 7;
  info.text_bytes = 80;
  info.train_tokens = 30;
  info.val_tokens = 5;
  info.token_bytes = {0, 1, 4};
  write_data_info(folder.path(), info);
  const DataInfo again = read_data_info(folder.path()).value();
  REQUIRE(again.vocab == 3);
  REQUIRE(again.tokenizer == "tokenizer.model");
  REQUIRE(again.tokenizer_digest == "0123");
  REQUIRE(again.documents == 7);
  REQUIRE(again.text_bytes == 80);
  REQUIRE(again.train_tokens == 30);
  REQUIRE(again.val_tokens == 5);
  REQUIRE(again.token_bytes == info.token_bytes);

  info.token_bytes = {0, 1};
  write_data_info(folder.path(), info);
  REQUIRE_THROWS_WITH(
      read_data_info(folder.path()),
      file.string() + ": token_bytes has 2 entries for a vocabulary of 3; run spillway tokenize again");
  info.token_bytes = {0, 1, -4};
  write_data_info(folder.path(), info);
  REQUIRE_THROWS_WITH(read_data_info(folder.path()),
                      file.string() + ": token_bytes has a negative entry; run spillway tokenize again");
  for (const char* damaged : {"", "{\"vocab\": 3", "[]", "{\"vocab\": \"many\"}", "{\"vocab\": 3}"}) {
    INFO(damaged);
    write_text(file, damaged);
    try {
      read_data_info(folder.path());
      FAIL("accepted");
    } catch (const Error& error) {
      REQUIRE(error.code() == ExitCode::bad_data);
      REQUIRE(std::string(error.what()).find(file.string() + ": ") == 0);
    }
  }
}

TEST_CASE("llm.c's own shards of Shakespeare are read as they are") {
  const auto file = real_trace("../corpus/tinyshakespeare/tiny_shakespeare_train.bin");
  if (!file) return;
  const Loader loader(file->parent_path(), 1024, 4096, 8192, 1);
  REQUIRE(loader.vocab() == 50304);  // GPT-2's 50257 rounded up to a multiple of 64
  REQUIRE(loader.blocks_per_epoch() == 74);
  REQUIRE_FALSE(loader.validation_bytes_per_token().has_value());
  std::vector<std::int32_t> tokens(1024), targets(1024);
  REQUIRE(loader.fill_validation(0, 1, tokens.data(), targets.data()) == 1);
  REQUIRE(std::equal(tokens.begin() + 1, tokens.end(), targets.begin()));
}
