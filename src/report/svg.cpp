#include "report/svg.hpp"

#include <fmt/format.h>

namespace spillway {
namespace {

// Coordinates to a tenth of a pixel, without trailing zeros.
std::string px(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string path_of(std::span<const Point> points) {
  std::string path;
  for (std::size_t i = 0; i < points.size(); ++i)
    path += fmt::format("{}{} {}", i == 0 ? "M" : "L", px(points[i].x), px(points[i].y));
  return path;
}

std::string tooltip_of(std::string_view tooltip) {
  return tooltip.empty() ? "/>" : fmt::format("><title>{}</title></", escaped(tooltip));
}

constexpr const char* kLight[kSeriesColors] = {"#0072b2", "#c84e00", "#00805e", "#a8478f",
                                               "#8a6d00", "#5b5bd6", "#6b7280"};
constexpr const char* kDark[kSeriesColors] = {"#5bb5f0", "#ff9a52", "#34c99a", "#ef9fcb",
                                              "#e5cf4b", "#a6a6ff", "#a3adb8"};

std::string variables(const char* const* colors, const char* rest) {
  std::string text;
  for (int i = 0; i < kSeriesColors; ++i) text += fmt::format("--c{}:{};", i, colors[i]);
  return text + rest;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return result;
}

std::string stroke_class(int series) { return fmt::format("s{}", series % kSeriesColors); }
std::string fill_class(int series) { return fmt::format("f{}", series % kSeriesColors); }

double text_width(std::string_view text, double size_px) {
  std::size_t letters = 0;
  for (const char c : text) letters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;  // UTF-8
  return 0.56 * size_px * static_cast<double>(letters);
}

std::string chart_style() {
  const std::string light =
      variables(kLight,
                "--paper:#ffffff;--ink:#16202b;--soft:#55616d;--grid:#dfe4e9;--axis:#9aa5b0;"
                "--window:#00805e;");
  const std::string dark =
      variables(kDark,
                "--paper:#12171d;--ink:#e8edf2;--soft:#a3aeb9;--grid:#2a323b;--axis:#5b6773;"
                "--window:#34c99a;");
  std::string style = ":root{color-scheme:light dark;" + light +
                      "}\n@media screen and (prefers-color-scheme:dark){:root{" + dark + "}}\n";
  for (int i = 0; i < kSeriesColors; ++i)
    style += fmt::format(".s{0}{{stroke:var(--c{0});fill:none}}.f{0}{{fill:var(--c{0})}}", i);
  // Where colours repeat, dashes tell series apart; `fine` is for dense curves, `faint` for what stands behind others.
  return style +
         "\n.chart{display:block;max-width:100%;height:auto;overflow:visible}"
         ".chart text{font:12px system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",sans-serif;"
         "fill:var(--soft);stroke:none}"
         ".chart text.strong{fill:var(--ink);font-weight:600}.chart text.ink{fill:var(--ink)}"
         ".chart text.small{font-size:11px}"
         ".start{text-anchor:start}.middle{text-anchor:middle}.end{text-anchor:end}"
         ".curve{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.fine{stroke-width:1.2}"
         ".dash{stroke-dasharray:6 3}.dots{stroke-dasharray:2 3}"
         ".grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--axis);stroke-width:1}"
         ".rule{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:5 4;fill:none}"
         ".dot{stroke:var(--paper);stroke-width:1.2}.gap{stroke:var(--paper);stroke-width:1}"
         ".window{fill:var(--window);opacity:.16}.faint{opacity:.35}.track{fill:var(--grid);opacity:.6}"
         ".f-soft{fill:var(--grid)}\n";
}

Svg::Svg(double width, double height, std::string_view title)
    : width_(width), height_(height), title_(title) {}

void Svg::line(Point from, Point to, std::string_view classes) {
  body_ += fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", classes, px(from.x),
                       px(from.y), px(to.x), px(to.y));
}

void Svg::polyline(std::span<const Point> points, std::string_view classes) {
  if (points.empty()) return;
  body_ += fmt::format("<path class=\"{}\" d=\"{}\"/>\n", classes, path_of(points));
}

void Svg::area(std::span<const Point> points, double base, std::string_view classes) {
  if (points.empty()) return;
  body_ += fmt::format("<path class=\"{}\" d=\"{}L{} {}L{} {}Z\"/>\n", classes, path_of(points),
                       px(points.back().x), px(base), px(points.front().x), px(base));
}

void Svg::rectangle(Point corner, double width, double height, std::string_view classes,
                    std::string_view tooltip) {
  body_ += fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}", classes,
                       px(corner.x), px(corner.y), px(width), px(height), tooltip_of(tooltip));
  body_ += tooltip.empty() ? "\n" : "rect>\n";
}

void Svg::circle(Point center, double radius, std::string_view classes, std::string_view tooltip) {
  body_ += fmt::format("<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"{}", classes, px(center.x),
                       px(center.y), px(radius), tooltip_of(tooltip));
  body_ += tooltip.empty() ? "\n" : "circle>\n";
}

void Svg::text(Point at, std::string_view text, std::string_view classes) {
  body_ += fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>\n", classes, px(at.x), px(at.y),
                       escaped(text));
}

std::string Svg::finish() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n{3}</svg>\n",
      px(width_), px(height_), escaped(title_), body_);
}

std::string Svg::standalone() const { return spillway::standalone(finish()); }

std::string standalone(std::string_view picture) {
  const std::size_t body = picture.find(">\n") + 2;
  return fmt::format("{}<style>{}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>\n{}",
                     picture.substr(0, body), chart_style(), picture.substr(body));
}

}  // namespace spillway
