#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <fstream>
#include <iterator>

#include "core/atomic_file.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr const char* kSeparator = "<|doc|>";
// SentencePiece writes blanks as U+2581 inside its pieces.
constexpr std::string_view kBlank = "\xe2\x96\x81";

// Lines of the documents up to a number of bytes: what SentencePiece calls sentences.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  LineIterator(const std::vector<std::string>& documents, std::int64_t budget_bytes)
      : documents_(documents), left_bytes_(budget_bytes) {
    Next();
  }
  bool done() const override { return done_; }
  void Next() override {
    for (; document_ < documents_.size() && left_bytes_ > 0; ++document_, at_ = 0) {
      const std::string& text = documents_[document_];
      while (at_ < text.size()) {
        const std::size_t end = std::min(text.find('\n', at_), text.size());
        line_ = text.substr(at_, end - at_);
        at_ = end + 1;
        if (line_.empty()) continue;
        left_bytes_ -= static_cast<std::int64_t>(line_.size());
        return;
      }
    }
    done_ = true;
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& documents_;
  std::int64_t left_bytes_;
  std::size_t document_ = 0, at_ = 0;
  std::string line_;
  bool done_ = false;
};

}  // namespace

struct Tokenizer::State {
  sentencepiece::SentencePieceProcessor processor;
  std::string model;
  int separator = 0;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::train(const std::vector<std::string>& documents, int vocab, std::int64_t sample_bytes) {
  // 256 bytes, the unknown piece, the separator and the line break are there in any case.
  constexpr int smallest = 256 + 3;
  if (vocab <= smallest || vocab > 65535)
    fail(ExitCode::usage, "--vocab {}: must be between {} and 65535", vocab, smallest + 1);
  LineIterator lines(documents, sample_bytes);
  auto state = std::make_unique<State>();
  const auto status =
      sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                  {"vocab_size", std::to_string(vocab)},
                                                  {"byte_fallback", "true"},
                                                  {"normalization_rule_name", "identity"},
                                                  {"add_dummy_prefix", "false"},
                                                  {"remove_extra_whitespaces", "false"},
                                                  {"split_digits", "true"},
                                                  {"character_coverage", "0.9999"},
                                                  {"user_defined_symbols", std::string("\n,") + kSeparator},
                                                  {"bos_id", "-1"},
                                                  {"eos_id", "-1"},
                                                  {"pad_id", "-1"},
                                                  {"max_sentence_length", "65536"},
                                                  {"num_threads", "1"},
                                                  {"minloglevel", "2"}},
                                                 &lines, &state->model);
  if (!status.ok())
    fail(ExitCode::usage,
         "--vocab {}: no tokenizer can be trained on this text ({}); use more text or a smaller vocabulary",
         vocab, std::string(status.message()));
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
  state->separator = state->processor.PieceToId(kSeparator);
  if (state->processor.IsUnknown(state->separator))
    fail(ExitCode::bad_data, "{}: this model has no piece {}; make one with spillway tokenize", file.string(),
         kSeparator);
  return Tokenizer(std::move(state));
}

void Tokenizer::save(const std::filesystem::path& file) const {
  write_file_atomically(file, {std::as_bytes(std::span(state_->model))});
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> tokens;
  if (!state_->processor.Encode(text, &tokens).ok())
    fail(ExitCode::internal, "text of {} bytes cannot be encoded", text.size());
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
