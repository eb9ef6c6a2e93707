// Byte-pair tokens by SentencePiece: any UTF-8 text and back without loss.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

// Shards hold a token in 16 bits.
inline constexpr int kLargestVocab = 65536;

class Tokenizer {
 public:
  // Trains a BPE model of `vocab` pieces on the documents: bytes that no piece covers have pieces of their own, the text
  // is not normalized, and the piece "<|doc|>" separates documents. Where the text has more than sample_bytes, lines
  // chosen at random, the same ones every time, stand for it.
  // Throws Error(usage) for a vocabulary that is too small, too large or more than the text can fill.
  static Tokenizer train(std::span<const std::string_view> documents, int vocab,
                         std::int64_t sample_bytes = 8 << 20);
  // Throws Error(bad_data) naming the file where it is not such a model, or one that changes text or has more pieces
  // than shards can tell apart.
  static Tokenizer load(const std::filesystem::path& file);

  Tokenizer(Tokenizer&&) noexcept;
  ~Tokenizer();

  void save(const std::filesystem::path& file) const;
  // xxh3 over the model's bytes: equal for equal tokenizers.
  std::string digest() const;

  // The tokens of UTF-8 text; never the separator, also where the text spells its name.
  // decode(encode(text)) == text, and the token_bytes() of the tokens add up to text.size().
  std::vector<int> encode(std::string_view text) const;
  // The separator reads "<|doc|>". Byte tokens that are no UTF-8 together read U+FFFD.
  std::string decode(const std::vector<int>& tokens) const;
  int vocab() const;
  int separator() const;
  // UTF-8 bytes of text that each token stands for; 0 for the separator and the unknown piece.
  std::vector<std::int32_t> token_bytes() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway
