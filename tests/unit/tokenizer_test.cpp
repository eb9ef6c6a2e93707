#include "data/tokenizer.hpp"

#include <fstream>
#include <iterator>
#include <numeric>

#include "core/error.hpp"
#include "data/documents.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

std::vector<std::string> sample() {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "the wind blows over the plain " + std::to_string(i) + " times, and the grid cannot take it\n";
  return {text};
}

}  // namespace

TEST_CASE("any UTF-8 text comes back as it was, and its bytes add up") {
  const Tokenizer tokenizer = Tokenizer::train(sample(), 300);
  REQUIRE(tokenizer.vocab() == 300);
  const auto bytes = tokenizer.token_bytes();
  for (const std::string text : {"the wind", "  two  blanks \n\n and\ttabs ", "Grüße, 電気 ⚡", "x"}) {
    INFO(text);
    const auto tokens = tokenizer.encode(text);
    REQUIRE(tokenizer.decode(tokens) == text);
    const int total = std::accumulate(tokens.begin(), tokens.end(), 0, [&](int sum, int token) {
      return sum + bytes[static_cast<std::size_t>(token)];
    });
    REQUIRE(total == static_cast<int>(text.size()));
  }
  REQUIRE(bytes[static_cast<std::size_t>(tokenizer.separator())] == 0);
}

TEST_CASE("a tokenizer survives its file; other files are refused by name") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "tokenizer.model";
  REQUIRE_THROWS_WITH(Tokenizer::load(file),
                      file.string() + ": the tokenizer cannot be read; check the path");
  const Tokenizer tokenizer = Tokenizer::train(sample(), 300);
  tokenizer.save(file);
  REQUIRE(Tokenizer::load(file).encode("the wind") == tokenizer.encode("the wind"));
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  REQUIRE_THROWS_AS(Tokenizer::load(file), Error);
  std::ofstream(file) << "not a model";
  REQUIRE_THROWS_WITH(
      Tokenizer::load(file),
      file.string() + ": not a SentencePiece model, or truncated; make one with spillway tokenize");
}

TEST_CASE("verses become chapters, and what is not UTF-8 is named by its offset") {
  REQUIRE(bible_chapters("Ge1:1 In the beginning\nGe1:2 And the earth\nGe2:1 Thus\n") ==
          std::vector<std::string>{"In the beginning\nAnd the earth\n", "Thus\n"});
  REQUIRE_THROWS_AS(bible_chapters("In the beginning\n"), Error);
  REQUIRE(split_documents("a--b----c", "--") == std::vector<std::string>{"a", "b", "c"});
  REQUIRE_THROWS_WITH(require_utf8("ab\xff", "x.txt"),
                      "x.txt: byte 2 is not UTF-8; convert the text, e.g. with iconv -t UTF-8");
  REQUIRE_NOTHROW(require_utf8("Grüße ⚡", "x.txt"));
}
