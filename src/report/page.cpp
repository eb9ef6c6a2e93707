#include "report/page.hpp"

#include <fmt/format.h>

#include "report/svg.hpp"

namespace spillway {
namespace {

constexpr const char* kStyle =
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,\"Helvetica Neue\",sans-serif;-webkit-text-size-adjust:100%}"
    "main,header,footer{max-width:1044px;margin:0 auto;padding:0 32px}"
    "header{padding-top:40px;padding-bottom:8px}"
    "h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}"
    "h2{font-size:21px;margin:0 0 4px;letter-spacing:-.005em}h3{font-size:15px;margin:22px 0 6px}"
    "section{margin:44px 0 0;padding-top:20px;border-top:1px solid var(--grid)}"
    "p{margin:0 0 14px;max-width:72ch}.soft,figcaption{color:var(--soft)}a{color:var(--c0)}"
    "figure{margin:22px 0 0}figcaption{font-size:15px;font-weight:600;color:var(--ink);margin:0 0 8px}"
    ".narrow{display:none}"
    ".tiles{display:grid;grid-template-columns:repeat(3,1fr);gap:12px;margin:20px 0 0}"
    ".tile{border:1px solid var(--grid);border-radius:10px;padding:12px 14px}"
    ".tile b{display:block;font-size:25px;line-height:1.25;font-weight:650;letter-spacing:-.01em}"
    ".tile span{display:block;font-size:13px;color:var(--soft)}.tile .name{color:var(--ink);font-weight:600}"
    ".scroll{overflow-x:auto;margin:14px 0 16px}"
    "table{border-collapse:collapse;font-size:14px;width:100%}"
    "th,td{text-align:left;padding:6px 16px 6px 0;border-bottom:1px solid var(--grid);vertical-align:top;"
    "white-space:nowrap}td.long{white-space:normal;overflow-wrap:anywhere;min-width:16em}"
    "th{font-weight:600;color:var(--soft)}"
    "th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}th:last-child,td:last-child{padding-right:"
    "0}"
    "ul{margin:8px 0 0;padding-left:20px;max-width:76ch}li{margin:0 0 5px}"
    "details{margin:14px 0 0}summary{cursor:pointer;font-weight:600;font-size:15px}"
    "pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto;"
    "background:color-mix(in srgb,var(--grid) 40%,transparent);padding:12px 14px;border-radius:8px}"
    "code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    ".grid2{display:grid;grid-template-columns:1fr 1fr;gap:0 28px}"
    ".note{border-left:3px solid var(--c1);padding:6px 12px;margin:16px 0 0;max-width:76ch}"
    "footer{margin-top:56px;padding-bottom:40px;font-size:13px;color:var(--soft)}"
    "@media screen and (max-width:720px){.wide{display:none}.narrow{display:block}"
    "main,header,footer{padding-left:20px;padding-right:20px}header{padding-top:26px}h1{font-size:25px}"
    ".tiles{grid-template-columns:1fr 1fr;gap:8px}.tile b{font-size:21px}.grid2{grid-template-columns:1fr}}"
    "@media print{@page{margin:14mm}body{font-size:11pt}main,header,footer{max-width:none;padding:0}"
    "figure,.tile,tr,li{break-inside:avoid}h2,h3,figcaption{break-after:avoid}.scroll{overflow:visible}"
    "td,th{white-space:normal}section{margin-top:24px}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}";

}  // namespace

std::string html_page(std::string_view title, std::string_view header, std::string_view body) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{}{}\n</style>\n"
      "</head>\n<body>\n<header>\n{}</header>\n<main>\n{}</main>\n</body>\n</html>\n",
      escaped(title), chart_style(), kStyle, header, body);
}

std::string html_section(std::string_view id, std::string_view title, std::string_view text,
                         std::string_view content) {
  return fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}{}</section>\n", id, escaped(title),
                     text.empty() ? "" : fmt::format("<p class=\"soft\">{}</p>\n", text), content);
}

std::string html_figure(std::string_view caption, std::string_view content) {
  return fmt::format("<figure><figcaption>{}</figcaption>\n{}</figure>\n", escaped(caption), content);
}

std::string html_tiles(const std::vector<Tile>& tiles) {
  std::string text = "<div class=\"tiles\">\n";
  for (const Tile& tile : tiles)
    text += fmt::format("<div class=\"tile\"><span class=\"name\">{}</span><b>{}</b><span>{}</span></div>\n",
                        escaped(tile.name), escaped(tile.value), escaped(tile.note));
  return text + "</div>\n";
}

std::string html_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows) {
  const auto number = [&](std::size_t column) { return header.at(column).starts_with('#'); };
  constexpr std::size_t kLong = 44;  // longer texts may wrap
  std::string text = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (std::size_t i = 0; i < header.size(); ++i)
    text += fmt::format("<th{}>{}</th>", number(i) ? " class=\"n\"" : "",
                        escaped(number(i) ? header[i].substr(1) : header[i]));
  text += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    text += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      text += fmt::format("<td{}>{}</td>",
                          number(i)               ? " class=\"n\""
                          : row[i].size() > kLong ? " class=\"long\""
                                                  : "",
                          escaped(row[i]));
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

}  // namespace spillway
