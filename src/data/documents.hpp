// Text in, documents out. `source` names the text in messages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway {

// The output of `bible -f gen1:1-rev22:21` (Debian's bible-kjv): one verse a line, "Ge1:1 In the beginning …".
// Chapters become documents of one verse a line, without the references. Throws Error(bad_data) for other text.
std::vector<std::string> bible_chapters(std::string_view text, const std::string& source);

// An e-book of Project Gutenberg: what stands between the lines "*** START OF …" and "*** END OF …", with line breaks
// "\n" for "\r\n". Throws Error(bad_data) where one of the two lines is missing.
std::vector<std::string> gutenberg_book(std::string_view text, const std::string& source);

// A JSON object a line; its string "text" is a document. Empty ones are left out. Throws Error(bad_data) naming the line.
std::vector<std::string> json_lines(std::string_view text, const std::string& source);

// The text cut at every occurrence of the separator; the whole text where it is empty. Empty pieces are left out.
std::vector<std::string> split_documents(std::string_view text, std::string_view separator);

// Throws Error(bad_data) naming the source and the offset of the first byte that is not UTF-8.
void require_utf8(std::string_view text, const std::string& source);

}  // namespace spillway
