#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/rng.hpp"

namespace spillway {
namespace {

constexpr std::string_view kSeparator = "<|doc|>";
// SentencePiece writes blanks as U+2581 inside its pieces.
constexpr std::string_view kBlank = "\xe2\x96\x81";

// Text that a model of ours gives back unchanged; normalizing, trimming or byteless models do not.
constexpr std::string_view kProbe = "  a \t\xef\xac\x81 \xe6\xbc\xa2\r\n\n \xf0\x9f\x98\x80\x01 b  ";

// The first line break at or after `from`, or the end.
std::size_t line_end(std::string_view text, std::size_t from) {
  return std::min(text.find('\n', from), text.size());
}

// Lines of the documents, a random part of them where they are more than `budget_bytes`: what SentencePiece calls
// sentences. Longer lines come in pieces because SentencePiece skips sentences beyond a length.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  static constexpr std::size_t kLongest = 4096;

  LineIterator(std::span<const std::string_view> documents, std::int64_t budget_bytes)
      : documents_(documents) {
    std::int64_t total_bytes = 0;
    for (const std::string_view text : documents) total_bytes += static_cast<std::int64_t>(text.size());
    share_ = static_cast<float>(budget_bytes) / static_cast<float>(std::max<std::int64_t>(total_bytes, 1));
    Next();
  }
  bool done() const override { return done_; }
  void Next() override {
    while (document_ < documents_.size()) {
      if (at_ >= documents_[document_].size()) {
        ++document_;
        at_ = 0;
      } else if (take_line() && uniform01(0, 0, ++count_) < share_) {
        return;
      }
    }
    done_ = true;
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  bool take_line() {
    const std::string_view text = documents_[document_];
    std::size_t end = line_end(text, at_);
    const bool whole = end - at_ <= kLongest;
    if (!whole) {
      end = at_ + kLongest;
      // Not inside a character: those have at most three bytes after the first.
      for (int i = 0; i < 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++i) --end;
    }
    line_ = text.substr(at_, end - at_);
    at_ = whole ? end + 1 : end;
    return !line_.empty();
  }

  std::span<const std::string_view> documents_;
  float share_;
  std::uint64_t count_ = 0;
  std::size_t document_ = 0, at_ = 0;
  std::string line_;
  bool done_ = false;
};

// "./src/trainer_interface.cc(660) [condition] Vocabulary size too high (5000). …" without its source line.
std::string reason(std::string_view message) {
  const std::size_t bracket = message.find("] ");
  std::string text(bracket == std::string_view::npos ? message : message.substr(bracket + 2));
  while (text.ends_with('.')) text.pop_back();
  return text.empty() ? "too little text" : text;
}

}  // namespace

struct Tokenizer::State {
  sentencepiece::SentencePieceProcessor processor;
  std::string model;
  int separator = 0;

  void encode_bytes(std::string_view text, std::vector<int>& tokens) const {
    for (const char byte : text)
      tokens.push_back(processor.PieceToId(
          fmt::format("<0x{:02X}>", static_cast<unsigned>(static_cast<unsigned char>(byte)))));
  }
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::train(std::span<const std::string_view> documents, int vocab,
                           std::int64_t sample_bytes) {
  // 256 bytes, the unknown piece, the separator and the line break are there in any case.
  constexpr int smallest = 256 + 3;
  if (vocab <= smallest || vocab > kLargestVocab)
    fail(ExitCode::usage, "--vocab {}: must be between {} and {}", vocab, smallest + 1, kLargestVocab);
  LineIterator lines(documents, sample_bytes);
  auto state = std::make_unique<State>();
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {{"model_type", "bpe"},
       {"vocab_size", std::to_string(vocab)},
       {"byte_fallback", "true"},
       {"normalization_rule_name", "identity"},
       {"add_dummy_prefix", "false"},
       {"remove_extra_whitespaces", "false"},
       {"allow_whitespace_only_pieces", "true"},
       {"split_digits", "true"},
       {"character_coverage", "0.9999"},
       {"user_defined_symbols", fmt::format("\n,{}", kSeparator)},
       {"bos_id", "-1"},
       {"eos_id", "-1"},
       {"pad_id", "-1"},
       {"max_sentence_length", std::to_string(2 * LineIterator::kLongest)},
       {"num_threads", "1"},
       {"minloglevel", "2"}},
      &lines, &state->model);
  if (!status.ok())
    fail(ExitCode::usage,
         "--vocab {}: no such tokenizer can be trained on this text ({}); use more text or a "
         "smaller vocabulary",
         vocab, reason(status.message()));
  if (!state->processor.LoadFromSerializedProto(state->model).ok())
    fail(ExitCode::internal, "the tokenizer that was just trained cannot be loaded");
  state->separator = state->processor.PieceToId(kSeparator);
  return Tokenizer(std::move(state));
}

Tokenizer Tokenizer::load(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail(ExitCode::bad_data, "{}: the tokenizer cannot be read; check the path", file.string());
  auto state = std::make_unique<State>();
  state->model.assign(std::istreambuf_iterator<char>(stream), {});
  if (state->model.empty() || !state->processor.LoadFromSerializedProto(state->model).ok())
    fail(ExitCode::bad_data, "{}: not a SentencePiece model, or truncated; make one with spillway tokenize",
         file.string());
  if (const int pieces = state->processor.GetPieceSize(); pieces > kLargestVocab)
    fail(ExitCode::bad_data, "{}: {} pieces; shards can hold token ids below {}", file.string(), pieces,
         kLargestVocab);
  state->separator = state->processor.PieceToId(kSeparator);
  if (state->processor.IsUnknown(state->separator))
    fail(ExitCode::bad_data, "{}: this model has no piece {}; make one with spillway tokenize", file.string(),
         kSeparator);
  Tokenizer tokenizer(std::move(state));
  if (tokenizer.decode(tokenizer.encode(kProbe)) != kProbe)
    fail(ExitCode::bad_data,
         "{}: this model does not give text back unchanged: truncated, or made with normalization; make one "
         "with "
         "spillway tokenize",
         file.string());
  return tokenizer;
}

void Tokenizer::save(const std::filesystem::path& file) const {
  write_file_atomically(file, {std::as_bytes(std::span(state_->model))});
}

std::string Tokenizer::digest() const { return xxh3_hex({bytes_of(state_->model)}); }

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> tokens, part;
  const auto next = [&](std::string_view mark, std::size_t from) {
    return std::min(text.find(mark, from), text.size());
  };
  // What SentencePiece would take for its own marks is spelled in bytes. Lines are encoded one by one, for memory: no
  // piece goes across a line break.
  std::size_t blank = next(kBlank, 0), separator = next(kSeparator, 0);
  for (std::size_t at = 0; at < text.size();) {
    if (at == blank || at == separator) {
      const std::string_view mark = at == blank ? kBlank : kSeparator;
      state_->encode_bytes(mark, tokens);
      at += mark.size();
      if (mark == kBlank)
        blank = next(kBlank, at);
      else
        separator = next(kSeparator, at);
      continue;
    }
    const std::size_t end = std::min({line_end(text, at) + 1, blank, separator, text.size()});
    if (!state_->processor.Encode(text.substr(at, end - at), &part).ok())
      fail(ExitCode::internal, "text of {} bytes cannot be encoded", end - at);
    tokens.insert(tokens.end(), part.begin(), part.end());
    at = end;
  }
  return tokens;
}

std::string Tokenizer::decode(const std::vector<int>& tokens) const {
  std::string text;
  if (!state_->processor.Decode(tokens, &text).ok())
    fail(ExitCode::internal, "{} tokens cannot be decoded", tokens.size());
  return text;
}

int Tokenizer::vocab() const { return state_->processor.GetPieceSize(); }
int Tokenizer::separator() const { return state_->separator; }

std::vector<std::int32_t> Tokenizer::token_bytes() const {
  const auto& processor = state_->processor;
  std::vector<std::int32_t> result(static_cast<std::size_t>(vocab()), 0);
  for (int id = 0; id < vocab(); ++id) {
    if (id == separator() || processor.IsControl(id) || processor.IsUnknown(id)) continue;
    auto& bytes = result[static_cast<std::size_t>(id)];
    if (processor.IsByte(id)) {
      bytes = 1;
      continue;
    }
    const std::string& piece = processor.IdToPiece(id);
    for (std::size_t at = 0; at < piece.size(); ++bytes)
      at += piece.compare(at, kBlank.size(), kBlank) == 0 ? kBlank.size() : 1;
  }
  return result;
}

}  // namespace spillway
