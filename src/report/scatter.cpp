#include "report/scatter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace spillway {
namespace {

constexpr double kWidth = 720, kHeight = 440, kLeft = 70, kRight = 20, kTop = 20, kBottom = 50;

// Values to pixels.
struct Axis {
  double least = 0, greatest = 1, from_px = 0, to_px = 1;
  double at(double value) const { return from_px + (value - least) / (greatest - least) * (to_px - from_px); }
};

Axis fit(const std::vector<ScatterPoint>& points, double ScatterPoint::*member, double from_px,
         double to_px) {
  Axis axis{0, 1, from_px, to_px};
  if (points.empty()) return axis;
  const auto [least, greatest] = std::minmax_element(
      points.begin(), points.end(), [member](const auto& a, const auto& b) { return a.*member < b.*member; });
  const double spread =
      std::max((*greatest).*member - (*least).*member, 1e-3 * std::abs((*greatest).*member) + 1e-9);
  axis.least = (*least).*member - 0.05 * spread;
  axis.greatest = (*least).*member + 1.05 * spread;
  return axis;
}

}  // namespace

std::string escaped_xml(const std::string& text) {
  std::string result;
  for (const char c : text) switch (c) {
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
        result += c;
    }
  return result;
}

std::string scatter_svg(const std::vector<ScatterPoint>& points, const std::string& x_title,
                        const std::string& y_title) {
  const Axis x = fit(points, &ScatterPoint::x, kLeft, kWidth - kRight);
  const Axis y = fit(points, &ScatterPoint::y, kHeight - kBottom, kTop);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  constexpr int kTicks = 5;
  for (int i = 0; i <= kTicks; ++i) {
    const double x_value = x.least + (x.greatest - x.least) * i / kTicks;
    const double y_value = y.least + (y.greatest - y.least) * i / kTicks;
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#ddd\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:.3g}</text>\n",
        x.at(x_value), kTop, kHeight - kBottom, kHeight - kBottom + 18, x_value);
    svg += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.3g}</text>\n",
        kLeft, kWidth - kRight, y.at(y_value), kLeft - 6, y.at(y_value) + 4, y_value);
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 10, escaped_xml(x_title));
  svg += fmt::format("<text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + kHeight - kBottom) / 2, escaped_xml(y_title));
  for (const ScatterPoint& point : points) {
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"{}\"><title>{}</title></circle>\n",
                       x.at(point.x), y.at(point.y), point.marked ? "#0a7d4b" : "#aaa",
                       escaped_xml(point.label));
    if (point.marked)
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", x.at(point.x) + 8, y.at(point.y) - 6,
                         escaped_xml(point.label));
  }
  return svg + "</svg>\n";
}

}  // namespace spillway
