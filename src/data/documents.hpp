// Text in, documents out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway {

// The output of `bible -f gen1:1-rev22:21` (Debian's bible-kjv): one verse a line, "Genesis 1:1 In the beginning …".
// Chapters become documents of one verse a line, without the references. Throws Error(bad_data) for other text.
std::vector<std::string> bible_chapters(std::string_view text);

// The text cut at every occurrence of the separator; the whole text where it is empty. Empty pieces are left out.
std::vector<std::string> split_documents(std::string_view text, std::string_view separator);

// Throws Error(bad_data) naming the source and the offset of the first byte that is not UTF-8.
void require_utf8(std::string_view text, const std::string& source);

}  // namespace spillway
