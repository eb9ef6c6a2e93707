#include "data/documents.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

namespace spillway {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Bytes of the UTF-8 sequence at the beginning of the text; 0 where there is none. Overlong forms, surrogates and values
// beyond U+10FFFF are none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef)
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  if (first >= 0xf0 && first <= 0xf4)
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3)
               ? 4
               : 0;
  return 0;
}

// Calls visit(line number from 1, line without its break) for each line.
template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    visit(number, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace

std::vector<std::string> bible_chapters(std::string_view text, const std::string& source) {
  std::vector<std::string> chapters;
  std::string_view chapter_name;
  for_each_line(text, [&](std::size_t number, std::string_view line) {
    if (line.empty()) return;
    // "1Sam3:4 And he answered": book and chapter, colon, verse, blank.
    const std::size_t blank = std::min(line.find(' '), line.size());
    const std::size_t colon = line.substr(0, blank).rfind(':');
    if (colon == std::string_view::npos || !all_digits(line.substr(colon + 1, blank - colon - 1)))
      fail(ExitCode::bad_data,
           "{}: line {}: no verse reference as in 'Ge1:1 In the beginning': is this the output of "
           "bible -f gen1:1-rev22:21?",
           source, number);
    if (chapters.empty() || line.substr(0, colon) != chapter_name) chapters.emplace_back();
    chapter_name = line.substr(0, colon);
    chapters.back() += std::string(line.substr(std::min(blank + 1, line.size()))) + "\n";
  });
  return chapters;
}

std::vector<std::string> gutenberg_book(std::string_view text, const std::string& source) {
  enum class Part { before, book, after } part = Part::before;
  std::string book;
  for_each_line(text, [&](std::size_t, std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (part == Part::before && line.starts_with("*** START OF ")) {
      part = Part::book;
    } else if (part == Part::book && line.starts_with("*** END OF ")) {
      part = Part::after;
    } else if (part == Part::book) {
      book.append(line).push_back('\n');
    }
  });
  if (part != Part::after)
    fail(ExitCode::bad_data,
         "{}: no line '*** {} OF THE PROJECT GUTENBERG EBOOK'; truncated, or use --input-format plain",
         source, part == Part::before ? "START" : "END");
  const std::size_t first = book.find_first_not_of('\n');
  if (first == std::string::npos) return {};
  return {book.substr(first, book.find_last_not_of('\n') + 2 - first)};
}

std::vector<std::string> json_lines(std::string_view text, const std::string& source) {
  std::vector<std::string> documents;
  for_each_line(text, [&](std::size_t number, std::string_view line) {
    if (line.empty()) return;
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("text") || !object["text"].is_string())
      fail(ExitCode::bad_data, "{}: line {}: not a JSON object with a string \"text\"", source, number);
    documents.push_back(object["text"].get<std::string>());
    if (documents.back().empty()) documents.pop_back();
  });
  return documents;
}

std::vector<std::string> split_documents(std::string_view text, std::string_view separator) {
  std::vector<std::string> documents;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end =
        separator.empty() ? text.size() : std::min(text.find(separator, start), text.size());
    if (end > start) documents.emplace_back(text.substr(start, end - start));
    start = end + std::max<std::size_t>(separator.size(), 1);
  }
  return documents;
}

void require_utf8(std::string_view text, const std::string& source) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text.substr(at, 4));
    if (length == 0)
      fail(ExitCode::bad_data, "{}: byte {} is not UTF-8; convert the text, e.g. with iconv -t UTF-8", source,
           at);
    at += length;
  }
}

}  // namespace spillway
