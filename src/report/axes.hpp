// Scales with ticks: where a value lies in a picture, and which values get a label.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report/svg.hpp"

namespace spillway {

enum class AxisKind { number, count, time };

// An axis's values and what they mean; low = high: a chart takes them from its data. count: k, M, G; time: seconds since 1970, shown in UTC.
struct Axis {
  std::string label;  // with the unit: "validation loss, bits per byte"
  AxisKind kind = AxisKind::number;
  double low = 0, high = 0;
};

// Takes a value into the axis's range; values that are not finite are left out.
void widen(Axis& axis, double value, bool& first);

// A value's text on the axis.
std::string tick_text(const Axis& axis, double value, double step);

// Round values inside [low, high], at most `most`; for time full minutes, hours or days of UTC. The second is the step.
std::pair<std::vector<double>, double> ticks(const Axis& axis, int most);

// Low and high moved outwards to round values, so that the first and last tick are the ends.
Axis rounded_out(Axis axis, int most);

// From values to pixels.
struct Scale {
  double low = 0, high = 1;       // values
  double from = 0, to = 1;        // pixels
  double at(double value) const;  // low = high: the middle
};

// The rectangle that curves are drawn in.
struct Plot {
  double left = 0, top = 0, width = 0, height = 0;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

// Grid, tick labels and the axis's name: below the plot, or left of it with the name above.
void draw_x_axis(Svg& svg, const Plot& plot, const Axis& axis);
void draw_y_axis(Svg& svg, const Plot& plot, const Axis& axis);

}  // namespace spillway
