// Horizontal bars, and rows over time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.hpp"
#include "report/legend.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

constexpr double kBarRow = 34, kBarHeight = 20, kLaneRow = 40, kLaneHeight = 22, kFont = 12, kBoldFont = 13.2;

// Every part's name once, in order of appearance.
std::vector<LegendEntry> part_names(const BarChart& chart) {
  std::vector<LegendEntry> entries;
  for (const Bar& bar : chart.bars)
    for (const Bar::Part& part : bar.parts) {
      const bool known = std::any_of(entries.begin(), entries.end(),
                                     [&](const LegendEntry& entry) { return entry.name == part.name; });
      if (!known && part.value > 0) entries.push_back({part.name, part.color, false});
    }
  return entries;
}

double total(const Bar& bar) {
  double sum = 0;
  for (const Bar::Part& part : bar.parts) sum += part.value;
  return sum;
}

// Labels stand beside the bars, or above them where the picture is narrow.
struct BarLayout {
  bool above = false;
  // Where labels are above: how much lower the notes stand, since they do not fit beside some label.
  double note = 0;
  double left = 0, row = kBarRow, scale = 0;  // pixels per unit
};

BarLayout lay_out(const BarChart& chart, double width) {
  double labels = 0, notes = 0, most = 0;
  for (const Bar& bar : chart.bars) {
    labels = std::max(labels, text_width(bar.label, kFont));
    if (!bar.unknown) notes = std::max(notes, text_width(bar.note, kBoldFont));
    most = std::max(most, total(bar));
  }
  BarLayout layout;
  layout.above = width < 600;
  for (const Bar& bar : chart.bars)
    if (layout.above && !bar.unknown &&
        text_width(bar.label, kFont) + text_width(bar.note, kBoldFont) + 12 > width)
      layout.note = 17;
  layout.left = layout.above ? 0 : labels + 14;
  layout.row = layout.above ? kBarRow + 20 + layout.note : kBarRow;
  const double room = layout.above ? width - 2 : width - layout.left - notes - 14;
  layout.scale = most > 0 ? std::max(room, 60.0) / most : 0;
  return layout;
}

void draw_bar(Svg& svg, const Bar& bar, const BarChart& chart, const BarLayout& layout, double width,
              double top) {
  const double y = layout.above ? top + 22 + layout.note : top + (kBarRow - kBarHeight) / 2;
  double x = layout.left;
  svg.text({layout.above ? 0 : layout.left - 10, layout.above ? top + 15 : y + 15}, bar.label,
           layout.above ? "start ink" : "end ink");
  const double all = total(bar);
  for (const Bar::Part& part : bar.parts) {
    const double length = part.value * layout.scale;
    if (length <= 0) continue;
    svg.rectangle({x, y}, length, kBarHeight, fill_class(part.color) + (bar.parts.size() > 1 ? " gap" : ""),
                  fmt::format("{}: {} ({})", part.name, chart.text(part.value),
                              readable_percent(all > 0 ? part.value / all : 0)));
    x += length;
  }
  if (layout.above)
    svg.text({bar.unknown || layout.note > 0 ? 0 : width, bar.unknown ? y + 13 : top + 15 + layout.note},
             bar.note,
             bar.unknown       ? "start"
             : layout.note > 0 ? "start strong"
                               : "end strong");
  else
    svg.text({x + (bar.unknown ? 0 : 8), y + 15}, bar.note, bar.unknown ? "start" : "start strong");
}

void draw_time_grid(Svg& svg, const Plot& plot, const LaneChart& chart) {
  Axis axis{"UTC", AxisKind::time, chart.from_unix_s, chart.to_unix_s};
  draw_x_axis(svg, plot, axis);
}

}  // namespace

std::string draw(const BarChart& chart, double width) {
  const auto entries = chart.legend ? part_names(chart) : std::vector<LegendEntry>{};
  const double top = kLegendRow * legend_rows(entries, width) + (entries.empty() ? 0 : 4);
  const BarLayout layout = lay_out(chart, width);
  Svg svg(width, top + layout.row * static_cast<double>(chart.bars.size()) + 2, chart.title);
  draw_legend(svg, entries, width);
  for (std::size_t i = 0; i < chart.bars.size(); ++i)
    draw_bar(svg, chart.bars[i], chart, layout, width, top + layout.row * static_cast<double>(i));
  return svg.finish();
}

std::string draw(const LaneChart& chart, double width) {
  std::vector<LegendEntry> entries;
  for (const auto& [name, color] : chart.legend) entries.push_back({name, color, false});
  bool windows = false;
  for (const Lane& lane : chart.lanes) windows = windows || !lane.windows.empty();
  if (windows) entries.push_back({"window", LegendEntry::kWindow, false});
  const bool narrow = width < 600;
  double labels = 0;
  for (const Lane& lane : chart.lanes) labels = std::max(labels, text_width(lane.name, kFont));
  const double row = narrow ? kLaneRow + 14 : kLaneRow, left = narrow ? 0 : labels + 14;
  const double top = kLegendRow * legend_rows(entries, width) + 6;
  const Plot plot = {left, top, width - left - 2, row * static_cast<double>(chart.lanes.size())};
  Svg svg(width, top + plot.height + 42, chart.title);
  draw_legend(svg, entries, width);
  draw_time_grid(svg, plot, chart);
  const Scale x{chart.from_unix_s, chart.to_unix_s, plot.left, plot.right()};
  const auto place = [&](double from, double to) {
    const double start = std::clamp(x.at(from), plot.left, plot.right());
    return std::pair(start, std::clamp(x.at(to), plot.left, plot.right()) - start);
  };
  for (std::size_t i = 0; i < chart.lanes.size(); ++i) {
    const Lane& lane = chart.lanes[i];
    const double y = plot.top + row * static_cast<double>(i) + (narrow ? 22 : (row - kLaneHeight) / 2);
    svg.text({narrow ? 0 : left - 10, narrow ? y - 8 : y + 15}, lane.name, narrow ? "start ink" : "end ink");
    for (const Span& span : lane.windows) {
      const auto [start, length] = place(span.from, span.to);
      if (length > 0) svg.rectangle({start, y - 6}, length, kLaneHeight + 12, "window", span.tooltip);
    }
    for (const Lane::Piece& piece : lane.pieces) {
      const auto [start, length] = place(piece.from_unix_s, piece.to_unix_s);
      if (length > 0)
        svg.rectangle({start, y}, std::max(length, 0.6), kLaneHeight, fill_class(piece.color), piece.tooltip);
    }
  }
  return svg.finish();
}

}  // namespace spillway
