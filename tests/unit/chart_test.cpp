#include <cmath>
#include <limits>
#include <regex>

#include "report/charts.hpp"
#include "report/page.hpp"
#include "report/units.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("quantities have fitting units and three digits") {
  CHECK(readable(0.001234) == "0.00123");
  CHECK(readable(99.96) == "100");
  CHECK(readable(1234567) == "1\u202f234\u202f567");
  CHECK(readable(std::nan("")) == "–");
  CHECK(readable_energy(0.0005) == "0.5\u00a0Wh");
  CHECK(readable_energy(27.483) == "27.5\u00a0kWh");
  CHECK(readable_energy(999.9) == "1\u00a0MWh");
  CHECK(readable_mass(671.1) == "671\u00a0g");
  CHECK(readable_mass(1340) == "1.34\u00a0kg");
  CHECK(readable_count(12.3e9) == "12.3\u00a0G");
  CHECK(readable_count(0) == "0");
  CHECK(readable_power(2024) == "2.02\u00a0kW");
  CHECK(readable_percent(0.0583) == "5.83\u00a0%");
  CHECK(readable_duration(7500) == "2\u00a0h\u00a005\u00a0min");
  CHECK(readable_duration(42) == "42\u00a0s");
  CHECK(readable_duration(3.2 * 86400) == "3\u00a0d\u00a05\u00a0h");
}

TEST_CASE("ticks are round and inside the axis") {
  const Axis axis{"loss", AxisKind::number, 1.41, 2.93};
  const auto [values, step] = ticks(axis, 6);
  CHECK(step == Approx(0.5));
  REQUIRE(values.size() == 3);
  CHECK(values.front() == Approx(1.5));
  CHECK(tick_text(axis, values.front(), step) == "1.5");
  const Axis day{"UTC", AxisKind::time, 1780272000, 1780272000 + 18 * 3600};
  const auto [hours, hour] = ticks(day, 9);
  CHECK(hour == 2 * 3600);
  CHECK(tick_text(day, hours.at(1), hour) == "02:00");
  CHECK(tick_text(day, hours.at(0), hour) == "06-01");
  const Axis flat = rounded_out({"x", AxisKind::number, 5, 5}, 5);
  CHECK(flat.low < 5);
  CHECK(flat.high > 5);
}

TEST_CASE("names cannot break out of the markup") {
  LineChart chart;
  chart.title = "\"><script>alert(1)</script>";
  chart.curves = {{"<b>", {{0, 1}, {1, 2}}, 0, CurveStyle::line},
                  {"a&b", {{0, 2}, {1, 1}}, 1, CurveStyle::line}};
  const std::string svg = draw(chart, 500);
  CHECK(svg.find("<script>") == std::string::npos);
  CHECK(svg.find("<b>") == std::string::npos);
  CHECK(svg.find("a&amp;b") != std::string::npos);
  CHECK(html_table({"<i>"}, {{"<u>"}}).find("<u>") == std::string::npos);
  CHECK(escaped(std::string("a\x01z", 3)) == "a z");
}

TEST_CASE("curves are thinned with their extremes and cut where they are unknown") {
  Curve curve{"loss", {}, 0, CurveStyle::fine};
  for (int i = 0; i < 100000; ++i)
    curve.points.push_back({double(i), i == 54321 ? 100.0 : std::sin(i * 0.01)});
  LineChart chart;
  chart.title = "loss";
  chart.curves = {curve};
  const std::string whole = draw(chart, 400);
  CHECK(whole.size() < 40000);
  CHECK(count(whole, "<path") == 1);
  // The one extreme value reaches the top of the axis, 100 → y = 34.
  CHECK(std::regex_search(whole, std::regex("L[0-9.]+ 34[ L\"]")));
  chart.curves[0].points[50000].y = std::numeric_limits<double>::quiet_NaN();
  CHECK(count(draw(chart, 400), "<path") == 2);
}

TEST_CASE("charts without data are pictures, not errors") {
  CHECK(draw(LineChart{}, 300).find("</svg>") != std::string::npos);
  CHECK(draw(BarChart{}, 300).find("</svg>") != std::string::npos);
  LaneChart lanes;
  lanes.lanes = {{"texas", {}, {}}};
  CHECK(draw(lanes, 300).find("texas") != std::string::npos);
  CHECK(draw(lanes, 300).find("nan") == std::string::npos);
}

TEST_CASE("bars are as long as their values, and windows lie where they are") {
  BarChart bars;
  bars.title = "energy";
  bars.text = readable_energy;
  bars.bars = {{"texas", {{"solo", 3, 0}, {"merge", 1, 1}}, "4 kWh", false},
               {"spain", {{"solo", 2, 0}}, "2 kWh", false}};
  const std::string svg = draw(bars, 300);
  std::vector<double> widths;
  const std::regex bar(
      "<rect class=\"f[0-9]( gap)?\" x=\"[0-9.]+\" y=\"[0-9.]+\" width=\"([0-9.]+)\" height=\"20\"");
  for (auto at = std::sregex_iterator(svg.begin(), svg.end(), bar); at != std::sregex_iterator(); ++at)
    widths.push_back(std::stod((*at)[2]));
  REQUIRE(widths.size() == 3);
  CHECK(widths[0] == Approx(3 * widths[1]).margin(0.2));
  CHECK(widths[2] == Approx(2 * widths[1]).margin(0.2));
  CHECK(svg.find("solo: 3\u00a0kWh (75\u00a0%)") != std::string::npos);

  LineChart line;
  line.title = "signal";
  line.x = {"UTC", AxisKind::time, 0, 1000};
  line.curves = {{"g", {{0, 1}, {1000, 2}}, 0, CurveStyle::step}};
  line.windows = {{250, 500, "open"}};
  const std::string signal = draw(line, 564);  // 52 left, 12 right: 500 pixels
  CHECK(signal.find("<rect class=\"window\" x=\"177\" y=\"34\" width=\"125\"") != std::string::npos);
}
