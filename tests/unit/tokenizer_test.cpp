#include "data/tokenizer.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>

#include "core/error.hpp"
#include "data/documents.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

// English-like text: words of a small vocabulary by a seeded generator, lines of six words.
std::string made_up_text(int words, unsigned seed) {
  const char* const list[] = {"window", "closes", "the",   "wind", "and",   "sun",   "curtailed", "power",
                              "site",   "trains", "model", "when", "price", "falls", "12",        "2026"};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 1; i <= words; ++i) text += std::string(list[random() % 16]) + (i % 6 == 0 ? ".\n" : " ");
  return text;
}

const Tokenizer& small_tokenizer() {
  static const std::string text = made_up_text(6000, 1);
  static const std::string_view documents[] = {text};
  static const Tokenizer tokenizer = Tokenizer::train(documents, 350);
  return tokenizer;
}

// Characters of one to four bytes, blanks, line breaks and what SentencePiece uses for its own purposes.
std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> parts = {
      "window",  "the ",   " ",      "  ",     "\n",    "\n\n", "\r\n",   "\t",     std::string(1, '\0'),
      "\x01",    "\x7f",   "a",      "Z",      "7",     "é",    "漢",     "😀",      "\u2581",
      "<|doc|>", "<|doc",  "|>",     "<0x41>", "<unk>", "<s>",  "\u2047", "\ufb01", "e\u0301",
      "\u3000",  "\u00a0", "\ufeff", "\u2585", "\uffff"};
  std::string text;
  for (auto left = random() % 40; left > 0; --left) text += parts[random() % parts.size()];
  return text;
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("any text comes back unchanged, and its tokens' bytes add up") {
  const Tokenizer& tokenizer = small_tokenizer();
  const auto bytes = tokenizer.token_bytes();
  const unsigned seed = GENERATE(1u, 2u, 3u);
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const std::string text = random_text(random);
    INFO("text '" << text << "'");
    const auto tokens = tokenizer.encode(text);
    REQUIRE(tokenizer.decode(tokens) == text);
    std::size_t sum = 0;
    for (const int token : tokens) {
      REQUIRE(token != tokenizer.separator());
      sum += static_cast<std::size_t>(bytes[static_cast<std::size_t>(token)]);
    }
    REQUIRE(sum == text.size());
  }
}

TEST_CASE("a trained tokenizer has the size asked for and compresses") {
  const Tokenizer& tokenizer = small_tokenizer();
  REQUIRE(tokenizer.vocab() == 350);
  REQUIRE(tokenizer.token_bytes().size() == 350);
  REQUIRE(tokenizer.token_bytes()[static_cast<std::size_t>(tokenizer.separator())] == 0);
  REQUIRE(tokenizer.decode({tokenizer.separator()}) == "<|doc|>");
  const std::string text = made_up_text(600, 2);  // other words in the same language
  REQUIRE(tokenizer.encode(text).size() * 3 < text.size());
  REQUIRE(tokenizer.encode("").empty());
}

TEST_CASE("training is deterministic, samples large text and takes long lines") {
  std::string text = made_up_text(6000, 1);
  const std::string_view documents[] = {text};
  REQUIRE(Tokenizer::train(documents, 350).digest() == small_tokenizer().digest());
  REQUIRE(Tokenizer::train(documents, 300, 9000).digest() == Tokenizer::train(documents, 300, 9000).digest());
  REQUIRE(Tokenizer::train(documents, 300, 9000).digest() != Tokenizer::train(documents, 300).digest());
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::string_view one_line[] = {text};
  REQUIRE(Tokenizer::train(one_line, 340).vocab() == 340);
}

TEST_CASE("a vocabulary that the text cannot fill is refused") {
  const std::string text = "too little text\n";
  const std::string_view documents[] = {text};
  REQUIRE_THROWS_WITH(Tokenizer::train(documents, 5000),
                      "--vocab 5000: no such tokenizer can be trained on this text (Vocabulary size too high "
                      "(5000). Please set it "
                      "to a value <= 290); use more text or a smaller vocabulary");
  REQUIRE_THROWS_WITH(Tokenizer::train(documents, 65537), "--vocab 65537: must be between 260 and 65536");
  REQUIRE_THROWS_WITH(Tokenizer::train(documents, 259), "--vocab 259: must be between 260 and 65536");
  REQUIRE_THROWS_AS(Tokenizer::train({}, 300), Error);
}

TEST_CASE("a saved tokenizer is the same after loading; a damaged or foreign one is refused by name") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "tokenizer.model";
  const std::string text = made_up_text(50, 3);
  REQUIRE_THROWS_WITH(Tokenizer::load(file),
                      file.string() + ": the tokenizer cannot be read; check the path");
  small_tokenizer().save(file);
  const Tokenizer again = Tokenizer::load(file);
  REQUIRE(again.digest() == small_tokenizer().digest());
  REQUIRE(again.encode(text) == small_tokenizer().encode(text));
  REQUIRE(again.token_bytes() == small_tokenizer().token_bytes());

  const std::string model = read_file(file);
  const std::string refusal =
      file.string() + ": not a SentencePiece model, or truncated; make one with spillway tokenize";
  std::ofstream(file, std::ios::binary) << "";
  REQUIRE_THROWS_WITH(Tokenizer::load(file), refusal);
  std::ofstream(file, std::ios::binary) << "window closes the wind and sun";
  REQUIRE_THROWS_WITH(Tokenizer::load(file), refusal);
  // Cut anywhere, the file is refused, or what is lost does not change a single token.
  int refused = 0;
  for (std::size_t length = 1; length < model.size(); length += 37) {
    std::ofstream(file, std::ios::binary) << model.substr(0, length);
    INFO(length << " of " << model.size() << " bytes");
    std::optional<Tokenizer> loaded;
    try {
      loaded.emplace(Tokenizer::load(file));
    } catch (const Error& error) {
      REQUIRE(error.code() == ExitCode::bad_data);
      REQUIRE(std::string(error.what()).find(file.string() + ": ") == 0);
      ++refused;
    }
    if (loaded) REQUIRE(loaded->encode(text) == small_tokenizer().encode(text));
  }
  REQUIRE(refused > 100);
}

TEST_CASE("documents of all formats") {
  const auto chapters = bible_chapters(
      "Ge1:1 In the beginning\nGe1:2 And the earth\nGe2:1 Thus\n1Sa2:1 And Hannah prayed\n", "kjv");
  REQUIRE(chapters ==
          std::vector<std::string>{"In the beginning\nAnd the earth\n", "Thus\n", "And Hannah prayed\n"});
  REQUIRE_THROWS_WITH(bible_chapters("Ge1:1 In\nnonsense\n", "kjv"),
                      "kjv: line 2: no verse reference as in 'Ge1:1 In the beginning': is this the output of "
                      "bible -f gen1:1-rev22:21?");
  REQUIRE(split_documents("a\n\nb\n\n\n\nc", "\n\n") == std::vector<std::string>{"a", "b", "c"});
  REQUIRE(split_documents("a\n\nb", "") == std::vector<std::string>{"a\n\nb"});
  REQUIRE(split_documents("", "").empty());

  const std::string start = "*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\r\n";
  const std::string end = "*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***\r\n";
  REQUIRE(gutenberg_book("Title\r\n" + start + "\r\nEmma\r\n\r\nwas\r\n\r\n" + end + "licence", "emma") ==
          std::vector<std::string>{"Emma\n\nwas\n"});
  REQUIRE(gutenberg_book(start + "\n" + end, "emma").empty());
  REQUIRE_THROWS_WITH(
      gutenberg_book(start + "Emma", "emma"),
      "emma: no line '*** END OF THE PROJECT GUTENBERG EBOOK'; truncated, or use --input-format "
      "plain");
  REQUIRE(json_lines("{\"text\": \"a\\nb\"}\n\n{\"text\": \"\"}\n{\"id\": 1, \"text\": \"\\u00e9\"}", "x") ==
          std::vector<std::string>{"a\nb", "é"});
  for (const std::string line : {"[1]", "{\"text\": 3}", "{\"txt\": \"a\"}", "{\"text\": \"a\"", "\"text\""})
    REQUIRE_THROWS_WITH(json_lines("{\"text\": \"a\"}\n" + line, "x"),
                        "x: line 2: not a JSON object with a string \"text\"");
}

TEST_CASE("text that is not UTF-8 is refused with the place of its first bad byte") {
  REQUIRE_NOTHROW(require_utf8("é漢😀\x7f", "x"));
  for (const std::string bad :
       {"\x80", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xff"})
    REQUIRE_THROWS_WITH(require_utf8("ab é" + bad, "x"),
                        "x: byte 5 is not UTF-8; convert the text, e.g. with iconv -t UTF-8");
}
