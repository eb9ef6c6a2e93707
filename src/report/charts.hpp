// The charts of reports, of the hub's page and of plans: data in, one <svg> out, as wide as asked for.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report/axes.hpp"
#include "report/svg.hpp"

namespace spillway {

enum class CurveStyle { line, fine, step, points };

// A curve; points with a coordinate that is not finite interrupt it. Long ones are thinned to what a screen can show,
// with the extremes kept.
struct Curve {
  std::string name;
  std::vector<Point> points;
  int color = 0;
  CurveStyle style = CurveStyle::line;
  std::vector<std::string> notes = {};  // tooltips, one per point; empty: its value
};

// A marked stretch of the x axis.
struct Span {
  double from = 0, to = 0;
  std::string tooltip;
};

// A level drawn across the plot.
struct Level {
  double value = 0;
  std::string label;
};

// Curves over common axes, with a legend where there are several. The axes' ranges come from the data where low >= high.
struct LineChart {
  std::string title;  // for screen readers; the page has the visible one
  Axis x, y;
  std::vector<Curve> curves;
  std::vector<Span> windows;
  std::vector<Level> levels;
  bool from_zero = false;  // the y axis starts at 0
  double height = 260;
};
std::string draw(const LineChart& chart, double width);

// A row of horizontal bars: parts side by side, the total and a note behind them.
struct Bar {
  std::string label;
  struct Part {
    std::string name;  // for the tooltip and the legend
    double value = 0;
    int color = 0;
  };
  std::vector<Part> parts;
  std::string note;      // beside the bar: its total in words
  bool unknown = false;  // no bar: the note says why
};
struct BarChart {
  std::string title;
  std::vector<Bar> bars;
  std::function<std::string(double)> text;  // of a value, for tooltips
  bool legend = true;                       // of the parts' names
};
std::string draw(const BarChart& chart, double width);

// Rows over time: what each site did, and its windows behind it.
struct Lane {
  std::string name;
  struct Piece {
    double from_unix_s = 0, to_unix_s = 0;
    int color = 0;
    std::string tooltip;
  };
  std::vector<Piece> pieces;
  std::vector<Span> windows;
};
struct LaneChart {
  std::string title;
  double from_unix_s = 0, to_unix_s = 0;
  std::vector<Lane> lanes;
  std::vector<std::pair<std::string, int>> legend;  // name, colour
};
std::string draw(const LaneChart& chart, double width);

// The same picture for wide and for narrow screens; the page's style shows one of them.
template <class Chart>
std::string responsive(const Chart& chart, double wide = 980) {
  constexpr double narrow = 350;
  return "<div class=\"wide\">" + draw(chart, wide) + "</div><div class=\"narrow\">" + draw(chart, narrow) +
         "</div>\n";
}

}  // namespace spillway
