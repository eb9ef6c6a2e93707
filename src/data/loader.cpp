#include "data/loader.hpp"

#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "core/rng.hpp"

namespace spillway {

std::int64_t shuffled_block(std::int64_t index, std::int64_t blocks, std::uint64_t seed, std::int64_t epoch) {
  SPILLWAY_CHECK(blocks > 0 && index >= 0 && index < blocks);
  // A Feistel network permutes [0, 4^half): at most four times too many, so few walks end outside the range.
  const int half =
      std::max(1, (static_cast<int>(std::bit_width(static_cast<std::uint64_t>(blocks - 1))) + 1) / 2);
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  auto value = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = value >> half, right = value & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const auto noise = philox(seed, static_cast<std::uint64_t>(epoch), right * 4 + round);
      const std::uint64_t mixed = left ^ ((std::uint64_t{noise[1]} << 32 | noise[0]) & mask);
      left = right;
      right = mixed;
    }
    value = left << half | right;
  } while (value >= static_cast<std::uint64_t>(blocks));
  return static_cast<std::int64_t>(value);
}

int data_vocab(const std::filesystem::path& folder) {
  if (const auto info = read_data_info(folder)) return info->vocab;
  const int largest = std::max(TokenStream(folder, "train").largest(), TokenStream(folder, "val").largest());
  return (largest + 64) / 64 * 64;
}

Loader::Loader(const std::filesystem::path& folder, int sequence, std::int64_t tokens_per_step,
               std::int64_t val_tokens, std::uint64_t seed)
    : folder_(folder),
      sequence_(sequence),
      seed_(seed),
      train_(folder, "train"),
      val_(folder, "val"),
      info_(read_data_info(folder)) {
  if (sequence <= 0 || tokens_per_step <= 0 || tokens_per_step % sequence != 0)
    fail(ExitCode::usage, "train.tokens-per-step = {}: must be a positive multiple of model.sequence = {}",
         tokens_per_step, sequence);
  sequences_per_block_ = static_cast<int>(tokens_per_step / sequence);
  // The last sequence of a block needs one token more as its last target.
  blocks_ = (train_.size() - 1) / tokens_per_step;
  if (blocks_ < 1)
    fail(ExitCode::bad_data,
         "data.dir {}: {} training tokens are fewer than one step of train.tokens-per-step = {} needs",
         folder.string(), train_.size(), tokens_per_step);
  val_sequences_ = static_cast<int>(std::min(val_tokens, val_.size() - 1) / sequence);
  if (val_sequences_ < 1)
    fail(ExitCode::bad_data,
         "data.dir {}: {} held-out tokens and train.val-tokens = {} give no sequence of {}", folder.string(),
         val_.size(), val_tokens, sequence);
  require_counts();
  vocab_ = data_vocab(folder);
  measure_validation();
}

// Shards that an earlier or interrupted spillway tokenize left in the folder would be read with the wrong vocabulary.
void Loader::require_counts() const {
  if (!info_ || (info_->train_tokens == train_.size() && info_->val_tokens == val_.size())) return;
  fail(ExitCode::bad_data,
       "data.dir {}: the shards hold {} + {} tokens, data.json counts {} + {}; empty the folder and run "
       "spillway "
       "tokenize again",
       folder_.string(), train_.size(), val_.size(), info_->train_tokens, info_->val_tokens);
}

void Loader::require_known(std::span<const std::int32_t> tokens) const {
  const auto largest = std::max_element(tokens.begin(), tokens.end());
  if (largest != tokens.end() && *largest >= vocab_)
    fail(ExitCode::bad_data,
         "data.dir {}: token {} is outside data.json's vocabulary of {}; run spillway tokenize again",
         folder_.string(), *largest, vocab_);
}

void Loader::fill_sequence(const TokenStream& stream, std::int64_t start, std::int32_t* tokens,
                           std::int32_t* targets) const {
  const auto length = static_cast<std::size_t>(sequence_);
  stream.read(start, {tokens, length});
  std::copy_n(tokens + 1, length - 1, targets);
  stream.read(start + sequence_, {targets + length - 1, 1});
  require_known({tokens, length});
  require_known({targets + length - 1, 1});
}

void Loader::fill(std::int64_t block, int first, int count, std::int32_t* tokens,
                  std::int32_t* targets) const {
  SPILLWAY_CHECK(block >= 0 && first >= 0 && count >= 0 && first + count <= sequences_per_block_);
  const std::int64_t place = shuffled_block(block % blocks_, blocks_, seed_, block / blocks_);
  for (int i = 0; i < count; ++i) {
    const std::int64_t start = (place * sequences_per_block_ + first + i) * sequence_;
    const std::int64_t out = static_cast<std::int64_t>(i) * sequence_;
    fill_sequence(train_, start, tokens + out, targets + out);
  }
}

int Loader::validation_batches(int batch_sequences) const {
  return (val_sequences_ + batch_sequences - 1) / batch_sequences;
}

int Loader::fill_validation(int batch, int batch_sequences, std::int32_t* tokens,
                            std::int32_t* targets) const {
  SPILLWAY_CHECK(batch >= 0 && batch < validation_batches(batch_sequences));
  const int first = batch * batch_sequences;
  const int count = std::min(batch_sequences, val_sequences_ - first);
  for (int i = 0; i < count; ++i) {
    const std::int64_t out = static_cast<std::int64_t>(i) * sequence_;
    fill_sequence(val_, static_cast<std::int64_t>(first + i) * sequence_, tokens + out, targets + out);
  }
  return count;
}

void Loader::measure_validation() {
  if (!info_) return;
  std::vector<std::int32_t> targets(static_cast<std::size_t>(validation_tokens()));
  val_.read(1, targets);
  require_known(targets);
  std::int64_t bytes = 0;
  for (const std::int32_t token : targets) bytes += info_->token_bytes[static_cast<std::size_t>(token)];
  if (bytes > 0) val_bytes_per_token_ = static_cast<double>(bytes) / static_cast<double>(targets.size());
}

}  // namespace spillway
