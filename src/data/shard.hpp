// Token shards in llm.c's layout: 256 little-endian int32 (magic 20240520, version 1, number of tokens, zeros), then the
// tokens as uint16.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway {

// One shard, mapped into memory, read-only. Throws Error(bad_data) naming the file for a missing, truncated or foreign
// one.
class Shard {
 public:
  explicit Shard(const std::filesystem::path& file);
  Shard(Shard&& other) noexcept;
  Shard& operator=(Shard&&) = delete;
  ~Shard();

  std::span<const std::uint16_t> tokens() const { return tokens_; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::span<const std::uint16_t> tokens_;
};

// Writes a shard: temporary file, fsync, rename. Throws Error(io). At most 2^31 - 1 tokens.
void write_shard(const std::filesystem::path& file, std::span<const std::uint16_t> tokens);

// Writes {split}_000000.bin, {split}_000001.bin, … of at most shard_tokens tokens each, 100 million as in llm.c's
// scripts; returns how many. Throws Error(io).
int write_shards(const std::filesystem::path& folder, const std::string& split,
                 std::span<const std::uint16_t> tokens, std::size_t shard_tokens = 100'000'000);

// Several shards read as one stream of tokens.
class TokenStream {
 public:
  // All shards of the folder for the split "train" or "val": train_*.bin as `spillway tokenize` writes them, or
  // *_train.bin and *_train_*.bin as llm.c's scripts name them; in order of their names.
  // Throws Error(bad_data) where there is none.
  TokenStream(const std::filesystem::path& folder, const std::string& split);

  std::int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }

  // Copies tokens [first, first + out.size()) of the stream.
  void read(std::int64_t first, std::span<std::int32_t> out) const;

  // The largest token id; reads everything.
  int largest() const;

 private:
  std::vector<Shard> shards_;
  std::vector<std::int64_t> ends_;  // position after each shard
};

// What `spillway tokenize` writes beside the shards, data.json.
struct DataInfo {
  int vocab = 0;
  std::string tokenizer;         // file name in the same folder
  std::string tokenizer_digest;  // Tokenizer::digest(): equal at all sites of a run
  std::int64_t documents = 0, text_bytes = 0, train_tokens = 0, val_tokens = 0;
  std::vector<std::int32_t> token_bytes;  // UTF-8 bytes that each token id stands for
};

// Nothing where the folder has no data.json. Throws Error(bad_data) for one that cannot be read or is not what we write.
std::optional<DataInfo> read_data_info(const std::filesystem::path& folder);
void write_data_info(const std::filesystem::path& folder, const DataInfo& info);

}  // namespace spillway
