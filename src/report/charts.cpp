#include "report/charts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/legend.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

constexpr double kTop = 34, kBottom = 42, kLeft = 52, kRight = 12;

// For each pixel column the first, lowest, highest and last point: the same picture with few points.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> result;
  for (std::size_t i = 0; i < points.size();) {
    std::size_t end = i, low = i, high = i;
    for (; end < points.size() && std::floor(points[end].x) == std::floor(points[i].x); ++end) {
      if (points[end].y < points[low].y) low = end;
      if (points[end].y > points[high].y) high = end;
    }
    std::vector<std::size_t> kept = {i, low, high, end - 1};
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const std::size_t index : kept) result.push_back(points[index]);
    i = end;
  }
  return result;
}

// Pixels of a curve, cut where it is interrupted.
std::vector<std::vector<Point>> strokes(const Curve& curve, const Scale& x, const Scale& y) {
  std::vector<std::vector<Point>> result(1);
  for (const Point& point : curve.points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) {
      if (!result.back().empty()) result.emplace_back();
      continue;
    }
    const Point pixel = {x.at(point.x), y.at(point.y)};
    if (curve.style == CurveStyle::step && !result.back().empty())
      result.back().push_back({pixel.x, result.back().back().y});
    result.back().push_back(pixel);
  }
  return result;
}

void draw_curve(Svg& svg, const Curve& curve, const Axis& x_axis, const Axis& y_axis, const Scale& x,
                const Scale& y) {
  const std::string dash = curve.color >= kSeriesColors ? " dash" : "";
  if (curve.style != CurveStyle::points)
    for (const auto& stroke : strokes(curve, x, y))
      svg.polyline(thinned(stroke), stroke_class(curve.color) +
                                        (curve.style == CurveStyle::line ? " curve" : " curve fine") + dash);
  const bool dots =
      curve.style == CurveStyle::points || (curve.style == CurveStyle::line && curve.points.size() <= 40);
  if (!dots) return;
  for (std::size_t i = 0; i < curve.points.size(); ++i) {
    const Point& point = curve.points[i];
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
    const std::string at =
        x_axis.kind == AxisKind::time ? tick_text(x_axis, point.x, 1) : readable_count(point.x);
    svg.circle({x.at(point.x), y.at(point.y)}, 3.2, fill_class(curve.color) + " dot",
               curve.notes.empty()
                   ? curve.name + ": " + readable(point.y) + " (" + y_axis.label + ") at " + at
                   : curve.notes[i]);
  }
}

void fit_axes(LineChart& chart) {
  const bool fit_x = chart.x.low >= chart.x.high, fit_y = chart.y.low >= chart.y.high;
  bool first_x = true, first_y = true;
  for (const Curve& curve : chart.curves)
    for (const Point& point : curve.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      if (fit_x) widen(chart.x, point.x, first_x);
      if (fit_y) widen(chart.y, point.y, first_y);
    }
  for (const Level& level : chart.levels)
    if (fit_y) widen(chart.y, level.value, first_y);
  if (fit_y && chart.from_zero) widen(chart.y, 0, first_y);
  if (fit_y) chart.y = rounded_out(chart.y, static_cast<int>(chart.height / 44));
  if (fit_x && !(chart.x.high > chart.x.low)) chart.x.high = chart.x.low + 1;
}

}  // namespace

std::string draw(const LineChart& given, double width) {
  LineChart chart = given;
  fit_axes(chart);
  std::vector<LegendEntry> entries;
  if (chart.curves.size() > 1) {
    for (const Curve& curve : chart.curves)
      entries.push_back({curve.name, curve.color, curve.style != CurveStyle::points});
    if (!chart.windows.empty()) entries.push_back({"window", LegendEntry::kWindow, false});
  }
  const double legend_height = legend_rows(entries, width) * kLegendRow;
  const Plot plot = {kLeft, kTop + legend_height, width - kLeft - kRight, chart.height - kTop - kBottom};
  Svg svg(width, chart.height + legend_height, chart.title);
  draw_legend(svg, entries, width);
  const Scale x{chart.x.low, chart.x.high, plot.left, plot.right()};
  const Scale y{chart.y.low, chart.y.high, plot.bottom(), plot.top};
  for (const Span& span : chart.windows) {
    const double from = std::max(x.at(span.from), plot.left), to = std::min(x.at(span.to), plot.right());
    if (to > from) svg.rectangle({from, plot.top}, to - from, plot.height, "window", span.tooltip);
  }
  draw_y_axis(svg, plot, chart.y);
  draw_x_axis(svg, plot, chart.x);
  for (const Level& level : chart.levels) {
    const double at = y.at(level.value);
    svg.line({plot.left, at}, {plot.right(), at}, "rule");
    svg.text({plot.right() - 4, at - 5}, level.label, "end small ink");
  }
  for (const Curve& curve : chart.curves) draw_curve(svg, curve, chart.x, chart.y, x, y);
  return svg.finish();
}

}  // namespace spillway
