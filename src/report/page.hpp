// One self-contained HTML page: no scripts, no network. Light and dark, phones, desks and paper.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway {

// A whole document. heading: HTML, the page's header; body: HTML.
std::string html_page(std::string_view title, std::string_view header, std::string_view body);

// A titled part with an anchor. text: HTML of a sentence below the title, may be empty.
std::string html_section(std::string_view id, std::string_view title, std::string_view text,
                         std::string_view content);

// A figure with its caption above; caption is plain text, content HTML.
std::string html_figure(std::string_view caption, std::string_view content);

// Figures on a line: a name, a large value, and what it means.
struct Tile {
  std::string name, value, note;
};
std::string html_tiles(const std::vector<Tile>& tiles);

// A table that scrolls on its own where the page is too narrow. Cells are plain text; columns whose header starts with
// '#' (not shown) are right-aligned numbers.
std::string html_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows);

}  // namespace spillway
