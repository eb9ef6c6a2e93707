// Keys of a chart: colour and name, in as many rows as the width asks for.
#pragma once

#include <string>
#include <vector>

#include "report/svg.hpp"

namespace spillway {

struct LegendEntry {
  static constexpr int kWindow = -1;  // the colour of windows
  std::string name;
  int color = 0;
  bool line = false;  // a stroke instead of a patch
};

inline constexpr double kLegendRow = 19;  // height in pixels

int legend_rows(const std::vector<LegendEntry>& entries, double width);
// From the top left corner of the picture.
void draw_legend(Svg& svg, const std::vector<LegendEntry>& entries, double width);

}  // namespace spillway
