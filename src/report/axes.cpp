#include "report/axes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/time.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

constexpr double kHour_s = 3600, kDay_s = 86400;
constexpr double kPixelsPerTick = 90;  // at least, along x
constexpr double kLinesPerTick = 44;   // along y

double round_step(double span, int most) {
  const double raw = span / std::max(most, 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

double time_step(double span_s, int most) {
  for (const double step : {1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, kHour_s, 2 * kHour_s, 3 * kHour_s,
                            6 * kHour_s, 12 * kHour_s, kDay_s, 2 * kDay_s, 7 * kDay_s, 14 * kDay_s})
    if (span_s / step <= most) return step;
  return std::ceil(span_s / most / (30 * kDay_s)) * 30 * kDay_s;
}

double step_of(const Axis& axis, int most) {
  const double span = axis.high - axis.low;
  if (!(span > 0)) return 1;
  return axis.kind == AxisKind::time ? time_step(span, most) : round_step(span, most);
}

}  // namespace

void widen(Axis& axis, double value, bool& first) {
  if (!std::isfinite(value)) return;
  axis.low = first ? value : std::min(axis.low, value);
  axis.high = first ? value : std::max(axis.high, value);
  first = false;
}

std::string tick_text(const Axis& axis, double value, double step) {
  if (axis.kind == AxisKind::time) {
    const std::string stamp = format_utc(value);  // 2026-01-11T17:00:00Z
    const bool day = std::fmod(value, kDay_s) == 0;
    if (day) return stamp.substr(5, 5);
    return step >= 60 ? stamp.substr(11, 5) : stamp.substr(11, 8);
  }
  if (std::abs(value) < 1e-9 * step) return "0";
  if (axis.kind == AxisKind::count) return readable_count(value);
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 6);
  const bool half = std::abs(step * std::pow(10, digits) - std::round(step * std::pow(10, digits))) > 1e-6;
  return std::abs(value) >= 1e4 ? readable(value) : fmt::format("{:.{}f}", value, digits + (half ? 1 : 0));
}

std::pair<std::vector<double>, double> ticks(const Axis& axis, int most) {
  const double step = step_of(axis, most);
  std::vector<double> values;
  for (double i = std::ceil(axis.low / step - 1e-9); i * step <= axis.high + 1e-9 * step; ++i)
    values.push_back(i * step);
  return {values, step};
}

Axis rounded_out(Axis axis, int most) {
  if (axis.kind == AxisKind::time) return axis;
  if (!(axis.high > axis.low)) {
    const double margin = axis.low == 0 ? 1 : 0.1 * std::abs(axis.low);
    axis.low -= axis.low == 0 ? 0 : margin;
    axis.high += margin;
  }
  const double step = step_of(axis, most);
  axis.low = std::floor(axis.low / step + 1e-9) * step;
  axis.high = std::ceil(axis.high / step - 1e-9) * step;
  return axis;
}

double Scale::at(double value) const {
  return high > low ? from + (value - low) / (high - low) * (to - from) : (from + to) / 2;
}

void draw_x_axis(Svg& svg, const Plot& plot, const Axis& axis) {
  const Scale scale{axis.low, axis.high, plot.left, plot.right()};
  const auto [values, step] = ticks(axis, std::max(2, static_cast<int>(plot.width / kPixelsPerTick)));
  for (const double value : values) {
    const double x = scale.at(value);
    svg.line({x, plot.top}, {x, plot.bottom()}, "grid");
    svg.text({x, plot.bottom() + 16}, tick_text(axis, value, step), "middle small");
  }
  svg.line({plot.left, plot.bottom()}, {plot.right(), plot.bottom()}, "axis");
  svg.text({plot.right(), plot.bottom() + 33}, axis.label, "end");
}

void draw_y_axis(Svg& svg, const Plot& plot, const Axis& axis) {
  const Scale scale{axis.low, axis.high, plot.bottom(), plot.top};
  const auto [values, step] = ticks(axis, std::max(2, static_cast<int>(plot.height / kLinesPerTick)));
  for (const double value : values) {
    const double y = scale.at(value);
    svg.line({plot.left, y}, {plot.right(), y}, "grid");
    svg.text({plot.left - 7, y + 4}, tick_text(axis, value, step), "end small");
  }
  svg.text({0, plot.top - 12}, axis.label, "start");
}

}  // namespace spillway
