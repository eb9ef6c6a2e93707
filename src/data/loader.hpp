// From a global block of data to the token sequences of one optimizer step, and the held-out batches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "data/shard.hpp"

namespace spillway {

// Position of block `index` in epoch `epoch`: a bijection of [0, blocks) that depends on the seed and the epoch.
// (Feistel network over Philox with cycle walking: no table, any block at once.)
std::int64_t shuffled_block(std::int64_t index, std::int64_t blocks, std::uint64_t seed, std::int64_t epoch);

// The vocabulary of a folder of shards: data.json's, or the largest id + 1 rounded up to a multiple of 64 where there is
// none (reads all tokens).
int data_vocab(const std::filesystem::path& folder);

// The training text is one stream of tokens, cut into blocks of tokens_per_step tokens: S sequences of T tokens, the data
// of one optimizer step. Block k of the run is block shuffled_block(k mod n) of epoch k / n, n blocks to an epoch.
// Sequence i of a block starts T·i tokens into it and reads T + 1 tokens; the targets are shifted by one. The tail of
// the stream that fills no block is not used.
class Loader {
 public:
  // val_tokens: held-out tokens of one validation, rounded down to whole sequences, at most what there is.
  // Throws Error(bad_data) for missing shards, shards that data.json does not count, fewer tokens than one block, or a
  // held-out token outside the vocabulary; Error(usage) for sizes that do not fit each other.
  Loader(const std::filesystem::path& folder, int sequence, std::int64_t tokens_per_step,
         std::int64_t val_tokens, std::uint64_t seed);

  // Sequences [first, first + count) of block `block`: tokens and targets are (count, T). Throws Error(bad_data) for a
  // token outside the vocabulary: tokens are checked as they are read, so that large data does not delay the start.
  void fill(std::int64_t block, int first, int count, std::int32_t* tokens, std::int32_t* targets) const;

  int vocab() const { return vocab_; }
  std::int64_t blocks_per_epoch() const { return blocks_; }
  const std::optional<DataInfo>& info() const { return info_; }

  // Validation: the first sequences of the held-out stream, in batches of batch_sequences, the last maybe shorter.
  int validation_batches(int batch_sequences) const;
  // Returns the number of sequences filled.
  int fill_validation(int batch, int batch_sequences, std::int32_t* tokens, std::int32_t* targets) const;
  std::int64_t validation_tokens() const { return static_cast<std::int64_t>(val_sequences_) * sequence_; }
  // Bytes of text per target token of the validation; nothing where the data does not say what its tokens stand for.
  // bits per byte = nats per token / ln 2 / this.
  std::optional<double> validation_bytes_per_token() const { return val_bytes_per_token_; }

 private:
  void fill_sequence(const TokenStream& stream, std::int64_t start, std::int32_t* tokens,
                     std::int32_t* targets) const;
  void require_counts() const;
  void require_known(std::span<const std::int32_t> tokens) const;
  void measure_validation();

  std::filesystem::path folder_;
  int sequence_, sequences_per_block_ = 0;
  std::uint64_t seed_;
  TokenStream train_, val_;
  std::optional<DataInfo> info_;
  int vocab_ = 0;
  std::int64_t blocks_ = 0;
  int val_sequences_ = 0;
  std::optional<double> val_bytes_per_token_;
};

}  // namespace spillway
