// spillway tokenize: text to token shards.
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <numeric>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "data/documents.hpp"
#include "data/shard.hpp"
#include "data/tokenizer.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

struct TokenizeOptions {
  std::vector<std::string> text;
  std::string input_format, split_on, out, tokenizer;
  int vocab = 0;
  double val_fraction = 0;
  std::uint64_t seed = 0;
};

std::string read_text(const std::string& source) {
  if (source == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream stream(source, std::ios::binary);
  if (!stream) fail(ExitCode::bad_data, "--text {}: cannot be read; check the path", source);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> read_documents(const TokenizeOptions& options) {
  std::vector<std::string> documents;
  for (const auto& source : options.text) {
    const std::string text = read_text(source);
    require_utf8(text, source == "-" ? "standard input" : source);
    auto parts =
        options.input_format == "bible" ? bible_chapters(text) : split_documents(text, options.split_on);
    if (parts.empty())
      fail(ExitCode::bad_data, "{}: empty: no text to tokenize", source == "-" ? "standard input" : source);
    std::move(parts.begin(), parts.end(), std::back_inserter(documents));
  }
  // A validation set needs a document of its own.
  if (documents.size() == 1) {
    std::string& whole = documents.front();
    const auto wanted =
        static_cast<std::size_t>(static_cast<double>(whole.size()) * (1 - options.val_fraction));
    const std::size_t cut = whole.find('\n', wanted);
    if (cut == std::string::npos)
      fail(ExitCode::bad_data, "one document without a line break near its end cannot be split");
    std::cout << fmt::format("one document only: its last {} bytes are held out\n", whole.size() - cut - 1);
    documents.push_back(whole.substr(cut + 1));
    documents.front().resize(cut + 1);
  }
  return documents;
}

// Which documents are held out: those with the smallest random numbers, at least one and not all.
std::vector<bool> choose_held_out(std::size_t count, const TokenizeOptions& options) {
  const auto wanted = std::clamp<std::size_t>(
      static_cast<std::size_t>(static_cast<double>(count) * options.val_fraction), 1, count - 1);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (count > 2)  // two documents may be the halves of one: the later is held out
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return uniform01(options.seed, 0, a) < uniform01(options.seed, 0, b);
    });
  else
    std::reverse(order.begin(), order.end());
  std::vector<bool> held_out(count, false);
  for (std::size_t i = 0; i < wanted; ++i) held_out[order[i]] = true;
  return held_out;
}

Tokenizer make_tokenizer(const TokenizeOptions& options, const std::vector<std::string>& documents,
                         const std::vector<bool>& held_out) {
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  std::vector<std::string> training;
  for (std::size_t i = 0; i < documents.size(); ++i)
    if (!held_out[i]) training.push_back(documents[i]);
  return Tokenizer::train(training, options.vocab);
}

void check(const TokenizeOptions& options) {
  if (options.text.empty()) fail(ExitCode::usage, "--text FILE is needed ('-' reads standard input)");
  if (options.out.empty()) fail(ExitCode::usage, "--out FOLDER is needed");
  if (options.input_format != "plain" && options.input_format != "bible")
    fail(ExitCode::usage, "--input-format {}: must be plain or bible", options.input_format);
  if (!(options.val_fraction > 0 && options.val_fraction < 1))
    fail(ExitCode::usage, "--val-fraction {}: must be between 0 and 1", options.val_fraction);
}

void tokenize(const TokenizeOptions& options) {
  check(options);
  const std::vector<std::string> documents = read_documents(options);
  const std::vector<bool> held_out = choose_held_out(documents.size(), options);
  const Tokenizer tokenizer = make_tokenizer(options, documents, held_out);

  DataInfo info;
  info.vocab = tokenizer.vocab();
  info.tokenizer = "tokenizer.model";
  info.documents = static_cast<std::int64_t>(documents.size());
  info.token_bytes = tokenizer.token_bytes();
  std::vector<std::uint16_t> train, val;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto& stream = held_out[i] ? val : train;
    stream.push_back(static_cast<std::uint16_t>(tokenizer.separator()));
    for (const int token : tokenizer.encode(documents[i]))
      stream.push_back(static_cast<std::uint16_t>(token));
    info.text_bytes += static_cast<std::int64_t>(documents[i].size());
  }
  info.train_tokens = static_cast<std::int64_t>(train.size());
  info.val_tokens = static_cast<std::int64_t>(val.size());

  const std::filesystem::path out = options.out;
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) fail(ExitCode::io, "--out {}: cannot be created: {}", options.out, error.message());
  write_shard(out / "train_000000.bin", train);
  write_shard(out / "val_000000.bin", val);
  tokenizer.save(out / "tokenizer.model");
  write_data_info(out, info);
  std::cout << fmt::format(
      "{} documents, {} bytes → {} training and {} held-out tokens of {} pieces, {:.2f} bytes per token, in "
      "{}\n",
      info.documents, info.text_bytes, info.train_tokens, info.val_tokens, info.vocab,
      static_cast<double>(info.text_bytes) / static_cast<double>(info.train_tokens + info.val_tokens),
      options.out);
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "tokenize";
  spec.summary = "Trains a tokenizer on text and writes token shards for training and validation.";
  spec.usage = "spillway tokenize --text FILE [--text FILE ...] --out FOLDER [options]";
  TokenizeOptions options;
  spec.options.add_options()("text", po::value(&options.text)->composing()->multitoken(),
                             "text file, UTF-8; '-' reads standard input")(
      "input-format", po::value(&options.input_format)->default_value("plain"),
      "plain, or bible: the output of bible -f gen1:1-rev22:21")(
      "split-on", po::value(&options.split_on),
      "plain: text that separates documents; default: one file, one document")("out", po::value(&options.out),
                                                                               "folder to write to")(
      "vocab", po::value(&options.vocab)->default_value(32768), "number of pieces of the tokenizer to train")(
      "tokenizer", po::value(&options.tokenizer), "use this SentencePiece model instead of training one")(
      "val-fraction", po::value(&options.val_fraction)->default_value(0.05, "0.05"),
      "part of the documents that is held out")("seed", po::value(&options.seed)->default_value(1),
                                                "of the choice of held-out documents");
  if (!parse(spec, arguments)) return 0;
  tokenize(options);
  return 0;
}

}  // namespace spillway::cli
