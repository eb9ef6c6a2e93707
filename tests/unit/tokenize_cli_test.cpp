// `spillway tokenize`, run as a user runs it.
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "core/process.hpp"
#include "data/loader.hpp"
#include "data/tokenizer.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

struct Outcome {
  int status;
  std::string output;  // standard output and error
};

std::string read_file(const std::filesystem::path& file) {
  std::stringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

Outcome run_program(const std::vector<std::string>& arguments) {
  const TemporaryFolder folder;
  ProcessOptions options;
  options.arguments = arguments;
  options.output_file = (folder.path() / "output").string();
  Process process(options);
  REQUIRE(process.wait(120));
  return {*process.status(), read_file(options.output_file)};
}

Outcome tokenize(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {SPILLWAY_BINARY, "tokenize"});
  return run_program(arguments);
}

void require_refusal(const Outcome& outcome, int status, const std::string& message) {
  INFO(outcome.output);
  REQUIRE(outcome.status == status);
  REQUIRE(outcome.output.find(message) != std::string::npos);
}

// Numbered documents of a few lines, with a blank line after each.
std::string numbered_documents(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "Document " + std::to_string(i) + "\nThe window of site " + std::to_string(i % 7) +
            " closes when the wind falls.\n\n";
  return text;
}

std::string read_tokens(const std::filesystem::path& folder, const std::string& split,
                        const Tokenizer& tokenizer) {
  const TokenStream stream(folder, split);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(stream.size()));
  stream.read(0, tokens);
  return tokenizer.decode({tokens.begin(), tokens.end()});
}

std::set<std::string> documents_of(const std::string& text) {
  std::set<std::string> documents;
  const std::string separator = "<|doc|>";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at + separator.size();
    at = std::min(text.find(separator, start), text.size());
    documents.insert(text.substr(start, at - start));
  }
  return documents;
}

}  // namespace

TEST_CASE("tokenize splits by document, and training reads what it wrote") {
  const TemporaryFolder folder;
  const auto text = folder.path() / "text.txt", out = folder.path() / "data";
  write_text(text, numbered_documents(200));
  const auto run = [&](const std::filesystem::path& where, const std::string& seed) {
    return tokenize({"--text", text.string(), "--split-on", "\\n\\n", "--out", where.string(), "--vocab",
                     "300", "--val-fraction", "0.1", "--seed", seed});
  };
  const Outcome outcome = run(out, "1");
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  REQUIRE(outcome.output.find("training         180") != std::string::npos);
  REQUIRE(outcome.output.find("held out          20") != std::string::npos);

  const Tokenizer tokenizer = Tokenizer::load(out / "tokenizer.model");
  const auto train = documents_of(read_tokens(out, "train", tokenizer));
  const auto val = documents_of(read_tokens(out, "val", tokenizer));
  REQUIRE(train.size() == 180);
  REQUIRE(val.size() == 20);
  for (const auto& document : val) REQUIRE(train.count(document) == 0);
  REQUIRE(train.count("Document 5\nThe window of site 5 closes when the wind falls.") +
              val.count("Document 5\nThe window of site 5 closes when the wind falls.") ==
          1);

  const Loader loader(out, 16, 64, 1 << 20, 1);
  REQUIRE(loader.vocab() == 300);
  REQUIRE(loader.info()->tokenizer_digest == tokenizer.digest());
  REQUIRE(loader.info()->documents == 200);
  REQUIRE(loader.validation_bytes_per_token().value() > 1.2);

  REQUIRE(run(folder.path() / "again", "1").status == 0);
  for (const char* file : {"train_000000.bin", "val_000000.bin", "tokenizer.model", "data.json"})
    REQUIRE(read_file(out / file) == read_file(folder.path() / "again" / file));
  REQUIRE(run(folder.path() / "other", "2").status == 0);
  REQUIRE(read_file(out / "val_000000.bin") != read_file(folder.path() / "other" / "val_000000.bin"));

  const Outcome reused = tokenize({"--text", text.string(), "--out", (folder.path() / "reused").string(),
                                   "--tokenizer", (out / "tokenizer.model").string()});
  REQUIRE(reused.status == 0);
  REQUIRE(reused.output.find("one document only: its last ") != std::string::npos);
  REQUIRE(read_file(folder.path() / "reused" / "tokenizer.model") == read_file(out / "tokenizer.model"));
  const Tokenizer same = Tokenizer::load(folder.path() / "reused" / "tokenizer.model");
  const std::string whole = read_tokens(folder.path() / "reused", "train", same).substr(7) +
                            read_tokens(folder.path() / "reused", "val", same).substr(7);
  REQUIRE(whole == read_file(text));
}

TEST_CASE("several files are several documents") {
  const TemporaryFolder folder;
  std::vector<std::string> arguments = {"--out", (folder.path() / "data").string(), "--vocab", "290",
                                        "--text"};
  for (const char* name : {"a", "b", "c"}) {
    write_text(folder.path() / name, name + numbered_documents(40));
    arguments.push_back((folder.path() / name).string());
  }
  const Outcome outcome = tokenize(arguments);
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  REQUIRE(outcome.output.find("training           2") != std::string::npos);
}

TEST_CASE("the King James text, from standard input") {
  const TemporaryFolder folder;
  const std::string command = std::string("bible -f gen1:1-gen20:18 | '") + SPILLWAY_BINARY +
                              "' tokenize --text - --input-format bible --vocab 512 --out '" +
                              (folder.path() / "data").string() + "'";
  const Outcome outcome = run_program({"/bin/bash", "-o", "pipefail", "-c", command});
  if (outcome.status == 127) {
    std::cout << "skipped: no program bible (package bible-kjv)\n";
    return;
  }
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
  const Tokenizer tokenizer = Tokenizer::load(folder.path() / "data" / "tokenizer.model");
  const std::string text = read_tokens(folder.path() / "data", "train", tokenizer) +
                           read_tokens(folder.path() / "data", "val", tokenizer);
  REQUIRE(documents_of(text).size() == 20);
  REQUIRE(text.find("<|doc|>In the beginning God created the heaven and the earth.\n") != std::string::npos);
}

TEST_CASE("bad input of tokenize is named with its remedy") {
  const TemporaryFolder folder;
  const auto text = folder.path() / "text.txt";
  const std::string out = (folder.path() / "data").string();
  const auto refuse = [&](const std::string& content, std::vector<std::string> extra, int status,
                          const std::string& message) {
    write_text(text, content);
    extra.insert(extra.end(), {"--text", text.string(), "--out", out});
    require_refusal(tokenize(extra), status, message);
    REQUIRE_FALSE(std::filesystem::exists(out));
  };
  const std::string good = numbered_documents(50);
  refuse("", {}, 65, text.string() + ": empty: no text to tokenize");
  refuse("x", {"--vocab", "300"}, 65, "one document of 1 bytes is too little text to hold a part of it out");
  refuse("wind \xff", {}, 65,
         text.string() + ": byte 5 is not UTF-8; convert the text, e.g. with iconv -t UTF-8");
  refuse(good, {"--vocab", "65537"}, 64, "--vocab 65537: must be between 260 and 65536");
  refuse(good, {"--vocab", "20000"}, 64, "--vocab 20000: no such tokenizer can be trained on this text");
  refuse(good, {"--val-fraction", "1"}, 64, "--val-fraction 1: must be between 0 and 1");
  refuse(good, {"--input-format", "xml"}, 64, "--input-format xml: must be plain, bible, gutenberg, jsonl");
  refuse(good, {"--input-format", "bible"}, 65, text.string() + ": line 1: no verse reference");
  refuse(good, {"--input-format", "jsonl", "--split-on", "x"}, 64, "--split-on is for --input-format plain");
  refuse(good, {"--tokenizer", text.string()}, 65,
         text.string() + ": not a SentencePiece model, or truncated");
  require_refusal(tokenize({"--text", out + "/missing", "--out", out}), 65,
                  "--text " + out + "/missing: cannot be read; check the path");
  require_refusal(tokenize({"--out", out}), 64, "--text FILE is needed");
  require_refusal(tokenize({"--text", text.string()}), 64, "--out FOLDER is needed");
  require_refusal(tokenize({"--text", text.string(), "--vocab", "300", "--out", text.string() + "/data"}), 74,
                  "--out " + text.string() + "/data: cannot be created: ");
}
