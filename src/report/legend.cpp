#include "report/legend.hpp"

namespace spillway {
namespace {

constexpr double kPatch = 14, kGap = 6, kBetween = 16, kFont = 12;

double entry_width(const LegendEntry& entry) {
  return kPatch + kGap + text_width(entry.name, kFont) + kBetween;
}

// Calls place(entry, x, row) for each entry; returns the number of rows.
template <class Place>
int lay_out(const std::vector<LegendEntry>& entries, double width, Place place) {
  if (entries.empty()) return 0;
  double x = 0;
  int row = 0;
  for (const LegendEntry& entry : entries) {
    if (x > 0 && x + entry_width(entry) - kBetween > width) {
      x = 0;
      ++row;
    }
    place(entry, x, row);
    x += entry_width(entry);
  }
  return row + 1;
}

}  // namespace

int legend_rows(const std::vector<LegendEntry>& entries, double width) {
  return lay_out(entries, width, [](const LegendEntry&, double, int) {});
}

void draw_legend(Svg& svg, const std::vector<LegendEntry>& entries, double width) {
  lay_out(entries, width, [&](const LegendEntry& entry, double x, int row) {
    const double y = kLegendRow * row + 8;
    if (entry.color == LegendEntry::kWindow)
      svg.rectangle({x, y - 5}, kPatch, 10, "window");
    else if (entry.line)
      svg.line({x, y}, {x + kPatch, y},
               stroke_class(entry.color) + " curve" + (entry.color >= kSeriesColors ? " dash" : ""));
    else
      svg.rectangle({x, y - 5}, kPatch, 10, fill_class(entry.color));
    svg.text({x + kPatch + kGap, y + 4}, entry.name, "start ink");
  });
}

}  // namespace spillway
