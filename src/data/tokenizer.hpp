// Byte-pair tokens by SentencePiece: any UTF-8 text and back without loss.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

class Tokenizer {
 public:
  // Trains a BPE model of `vocab` pieces on the documents: bytes that no piece covers have pieces of their own, the text
  // is not normalized, and the piece "<|doc|>" separates documents. At most sample_bytes of text are looked at.
  // Throws Error(usage) for a vocabulary that the text cannot fill or that is too small.
  static Tokenizer train(const std::vector<std::string>& documents, int vocab,
                         std::int64_t sample_bytes = 4 << 20);
  // Throws Error(bad_data) naming the file where it is not such a model.
  static Tokenizer load(const std::filesystem::path& file);

  Tokenizer(Tokenizer&&) noexcept;
  ~Tokenizer();

  void save(const std::filesystem::path& file) const;

  std::vector<int> encode(std::string_view text) const;
  std::string decode(const std::vector<int>& tokens) const;
  int vocab() const;
  int separator() const;
  // UTF-8 bytes of text that each token stands for; 0 for control tokens.
  std::vector<std::int32_t> token_bytes() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway
