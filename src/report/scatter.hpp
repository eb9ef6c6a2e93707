// Points in a plane as an SVG picture.
#pragma once

#include <string>
#include <vector>

namespace spillway {

struct ScatterPoint {
  double x = 0, y = 0;
  std::string label;
  bool marked = false;  // drawn in colour, with its label
};

// A complete SVG document: axes from the least to the greatest value with a margin, a dot per point, its label as a tooltip.
std::string scatter_svg(const std::vector<ScatterPoint>& points, const std::string& x_title,
                        const std::string& y_title);

// Text for an attribute or element of SVG and HTML: &, <, >, " and ' replaced.
std::string escaped_xml(const std::string& text);

}  // namespace spillway
