// spillway tokenize: text to token shards.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

struct Corpus {
  std::vector<std::string> documents;
  std::vector<bool> held_out;  // by document
};

// What one side of the split adds up to.
struct Side {
  std::int64_t documents = 0, text_bytes = 0;
  std::vector<std::uint16_t> tokens;
};

std::string read_text(const std::string& source) {
  if (source == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream stream(source, std::ios::binary);
  if (!stream || std::filesystem::is_directory(source))
    fail(ExitCode::bad_data, "--text {}: cannot be read; check the path", source);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// "\n" and "\t" as people can type them on a command line.
std::string unescape(std::string text) {
  for (const auto& [spelled, meant] : {std::pair{"\\n", "\n"}, {"\\t", "\t"}})
    for (std::size_t at = 0; (at = text.find(spelled, at)) != std::string::npos; ++at)
      text.replace(at, 2, meant);
  return text;
}

std::vector<std::string> documents_of(const TokenizeOptions& options, std::string_view text,
                                      const std::string& source) {
  if (options.input_format == "bible") return bible_chapters(text, source);
  if (options.input_format == "gutenberg") return gutenberg_book(text, source);
  if (options.input_format == "jsonl") return json_lines(text, source);
  return split_documents(text, unescape(options.split_on));
}

std::vector<std::string> read_documents(const TokenizeOptions& options) {
  std::vector<std::string> documents;
  for (const auto& file : options.text) {
    const std::string source = file == "-" ? "standard input" : file;
    const std::string text = read_text(file);
    require_utf8(text, source);
    auto parts = documents_of(options, text, source);
    if (parts.empty()) fail(ExitCode::bad_data, "{}: empty: no text to tokenize", source);
    std::move(parts.begin(), parts.end(), std::back_inserter(documents));
  }
  return documents;
}

// Where the held-out end of a lone document begins: at a line break where one is near, never inside a character.
std::size_t place_to_cut(std::string_view text, double val_fraction) {
  auto cut = static_cast<std::size_t>(static_cast<double>(text.size()) * (1 - val_fraction));
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
  const std::size_t line_break = text.find('\n', cut);
  if (line_break != std::string_view::npos && line_break - cut < (text.size() - cut) / 2)
    cut = line_break + 1;
  if (cut == 0 || cut >= text.size())
    fail(ExitCode::bad_data, "one document of {} bytes is too little text to hold a part of it out",
         text.size());
  return cut;
}

// Held out are the documents with the smallest random numbers, at least one and not all; the end of a lone document.
Corpus split(std::vector<std::string> documents, const TokenizeOptions& options) {
  const std::size_t count = documents.size();
  if (count == 1) {
    const std::size_t cut = place_to_cut(documents[0], options.val_fraction);
    std::cout << fmt::format("one document only: its last {} bytes are held out\n",
                             documents[0].size() - cut);
    return {{documents[0].substr(0, cut), documents[0].substr(cut)}, {false, true}};
  }
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return uniform01(options.seed, 0, a) < uniform01(options.seed, 0, b);
  });
  const auto wanted = std::clamp<std::size_t>(
      static_cast<std::size_t>(static_cast<double>(count) * options.val_fraction), 1, count - 1);
  std::vector<bool> held_out(count, false);
  for (std::size_t i = 0; i < wanted; ++i) held_out[order[i]] = true;
  return {std::move(documents), std::move(held_out)};
}

Tokenizer make_tokenizer(const TokenizeOptions& options, const Corpus& corpus) {
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  std::vector<std::string_view> training;
  for (std::size_t i = 0; i < corpus.documents.size(); ++i)
    if (!corpus.held_out[i]) training.push_back(corpus.documents[i]);
  std::cout << fmt::format("training a tokenizer of {} pieces\n", options.vocab) << std::flush;
  return Tokenizer::train(training, options.vocab);
}

void check(const TokenizeOptions& options) {
  if (options.text.empty()) fail(ExitCode::usage, "--text FILE is needed ('-' reads standard input)");
  if (options.out.empty()) fail(ExitCode::usage, "--out FOLDER is needed");
  constexpr std::array formats = {"plain", "bible", "gutenberg", "jsonl"};
  if (std::find(formats.begin(), formats.end(), options.input_format) == formats.end())
    fail(ExitCode::usage, "--input-format {}: must be {}", options.input_format, fmt::join(formats, ", "));
  if (!options.split_on.empty() && options.input_format != "plain")
    fail(ExitCode::usage, "--split-on is for --input-format plain; {} has documents of its own",
         options.input_format);
  if (!(options.val_fraction > 0 && options.val_fraction < 1))
    fail(ExitCode::usage, "--val-fraction {}: must be between 0 and 1", options.val_fraction);
}

// Tokens of all documents, each after a separator. On a terminal the part that is done is shown.
std::array<Side, 2> encode(const Corpus& corpus, const Tokenizer& tokenizer) {
  std::array<Side, 2> sides;  // training, held out
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const std::size_t count = corpus.documents.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (terminal && (i * 100 / count != (i + 1) * 100 / count))
      std::cout << fmt::format("\rencoding {} %", (i + 1) * 100 / count) << std::flush;
    Side& side = sides[corpus.held_out[i] ? 1 : 0];
    side.tokens.push_back(static_cast<std::uint16_t>(tokenizer.separator()));
    for (const int token : tokenizer.encode(corpus.documents[i]))
      side.tokens.push_back(static_cast<std::uint16_t>(token));
    ++side.documents;
    side.text_bytes += static_cast<std::int64_t>(corpus.documents[i].size());
  }
  if (terminal) std::cout << "\r\x1b[K";
  return sides;
}

void print_row(const char* name, const Side& side) {
  std::cout << fmt::format("{:<9} {:>10} {:>14} {:>14} {:>12.2f}\n", name, side.documents, side.text_bytes,
                           side.tokens.size(),
                           static_cast<double>(side.text_bytes) / static_cast<double>(side.tokens.size()));
}

void tokenize(const TokenizeOptions& options) {
  check(options);
  const Corpus corpus = split(read_documents(options), options);
  const Tokenizer tokenizer = make_tokenizer(options, corpus);
  const auto [train, val] = encode(corpus, tokenizer);

  const std::filesystem::path out = options.out;
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) fail(ExitCode::io, "--out {}: cannot be created: {}", options.out, error.message());
  const int shards = write_shards(out, "train", train.tokens) + write_shards(out, "val", val.tokens);
  tokenizer.save(out / "tokenizer.model");
  write_data_info(out, {.vocab = tokenizer.vocab(),
                        .tokenizer = "tokenizer.model",
                        .tokenizer_digest = tokenizer.digest(),
                        .documents = train.documents + val.documents,
                        .text_bytes = train.text_bytes + val.text_bytes,
                        .train_tokens = static_cast<std::int64_t>(train.tokens.size()),
                        .val_tokens = static_cast<std::int64_t>(val.tokens.size()),
                        .token_bytes = tokenizer.token_bytes()});

  std::cout << fmt::format("{:<9} {:>10} {:>14} {:>14} {:>12}\n", "", "documents", "bytes", "tokens",
                           "bytes/token");
  print_row("training", train);
  print_row("held out", val);
  std::cout << fmt::format("{} shards, tokenizer.model ({} pieces) and data.json are in {}\n", shards,
                           tokenizer.vocab(), options.out);
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "tokenize";
  spec.summary = "Trains a tokenizer on text and writes token shards for training and validation.";
  spec.usage = "spillway tokenize --text FILE [FILE ...] --out FOLDER [options]";
  TokenizeOptions options;
  const auto option = [&](const char* name, const po::value_semantic* value, const char* description) {
    spec.options.add_options()(name, value, description);
  };
  option("text", po::value(&options.text)->composing()->multitoken(),
         "text files, UTF-8; '-' reads standard input");
  option("input-format", po::value(&options.input_format)->default_value("plain"),
         "plain; bible: the output of bible -f gen1:1-rev22:21; gutenberg: an e-book with its licence around "
         "it; "
         "jsonl: a JSON object with a \"text\" a line");
  option(
      "split-on", po::value(&options.split_on),
      "plain: text that separates documents, e.g. '\\n\\n' for blank lines; default: one file, one document");
  option("out", po::value(&options.out), "folder to write to");
  option("vocab", po::value(&options.vocab)->default_value(32768),
         "number of pieces of the tokenizer to train");
  option("tokenizer", po::value(&options.tokenizer), "use this SentencePiece model instead of training one");
  option("val-fraction", po::value(&options.val_fraction)->default_value(0.05, "0.05"),
         "part of the documents that is held out");
  option("seed", po::value(&options.seed)->default_value(1), "of the choice of held-out documents");
  if (!parse(spec, arguments)) return 0;
  tokenize(options);
  return 0;
}

}  // namespace spillway::cli
