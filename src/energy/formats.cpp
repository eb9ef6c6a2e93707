#include "energy/formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "core/error.hpp"
#include "energy/formats_known.hpp"
#include "energy/stamps.hpp"

namespace spillway {
namespace formats {

Header::Header(const Table& table) {
  for (const std::string& name : table.header()) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    names_.push_back(std::move(lower));
  }
}

Column Header::find_containing(std::string_view part, std::string_view other, bool whole) const {
  for (std::size_t i = 0; i < names_.size(); ++i)
    if (whole ? names_[i] == part
              : names_[i].find(part) != std::string::npos && names_[i].find(other) != std::string::npos)
      return i;
  return std::nullopt;
}

std::vector<Measure> existing(std::initializer_list<std::pair<Column, Unit>> candidates) {
  std::vector<Measure> measures;
  for (const auto& [column, unit] : candidates)
    if (column) measures.push_back(measure(*column, unit));
  return measures;
}

std::string zone_in_header(std::string_view name) {
  for (const char* pair : {"cet/cest", "wet/west", "eet/eest"})
    if (name.find(pair) != std::string_view::npos) {
      std::string upper(pair);
      for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      return upper;
    }
  for (const char* mark : {"(utc)", "_utc", "(gmt)", "_gmt"})
    if (name.find(mark) != std::string_view::npos) return "UTC";
  return "";
}

}  // namespace formats

namespace {

using namespace formats;

// Any table with instants in one column and numbers in others.
std::optional<Layout> columns(const Table& table, const Header& header) {
  if (table.rows() == 0) return std::nullopt;
  Layout layout;
  layout.kind = "as named";
  layout.columns_are_regions = true;
  const auto is_stamp = [&](std::string_view cell) {
    return !parse_number(cell) &&
           (parse_stamp(cell, DateOrder::day_first) || parse_stamp(cell, DateOrder::month_first));
  };
  for (std::size_t i = 0; i < header.size() && layout.time.empty(); ++i)
    if (is_stamp(table.cell(0, i))) layout.time = {i};
  for (std::size_t i = 0; i < header.size() && layout.time.empty(); ++i)
    if (header[i].find("time") != std::string::npos) layout.time = {i};
  if (layout.time.empty()) return std::nullopt;
  const std::string& time = header[layout.time[0]];
  layout.zone = zone_in_header(time);
  layout.stamps_end =
      time.find("interval_end") != std::string::npos || time.find("interval end") != std::string::npos;
  return layout;
}

struct TableFormat {
  const char* name;
  const char* about;
  Recognizer* recognize;
};

// In the order in which they are tried: the narrow ones first.
constexpr std::array<TableFormat, 18> kFormats = {{
    {"watttime-v3", "WattTime v3 download: point_time, value in lb/MWh", watttime_v3},
    {"study", "the feasibility study's: point_time and a column per region in g/kWh", study},
    {"watttime-v2", "WattTime v2 monthly file: timestamp, MOER in lb/MWh", watttime_v2},
    {"sgip", "California's SGIP signal: time, moer, f1 … or MOER versions, in kg/kWh", sgip},
    {"electricity-maps", "Electricity Maps portal, 2021 on: average intensity, direct and life cycle",
     electricity_maps},
    {"uk-carbon-intensity", "carbonintensity.org.uk: actual and forecast", uk_carbon_intensity},
    {"neso", "NESO's historic generation mix", neso},
    {"aemo-price-demand", "AEMO's monthly price and demand, stamps end intervals", aemo_price_demand},
    {"aemo-mms", "AEMO's MMS and NEMWEB tables with C, I and D records", aemo_mms},
    {"caiso-oasis", "CAISO OASIS prices", caiso_oasis},
    {"caiso-curtailment", "CAISO's daily curtailment report: events, no row means zero",
     caiso_curtailment_report},
    {"caiso-curtailment-5min", "CAISO's yearly curtailments sheet, saved as CSV", caiso_curtailment_5min},
    {"entsoe-prices", "ENTSO-E's web export, all three generations", entsoe_prices},
    {"entsoe-bulk", "ENTSO-E's bulk files, tab separated", entsoe_bulk},
    {"open-electricity", "OpenNEM and Open Electricity export", open_electricity},
    {"elexon", "Elexon: settlement date and period", elexon},
    {"date-hour", "date, hour … ci", date_hour},
    {"columns", "instants in one column, numbers in others", columns},
}};

bool is_numeric_column(const Table& table, std::size_t column) {
  for (std::size_t row = 0; row < std::min<std::size_t>(table.rows(), 1000); ++row)
    if (!is_blank(table.cell(row, column))) return parse_number(table.cell(row, column)).has_value();
  return false;
}

// For layouts whose columns are regions and that name no measures: every column of numbers is one.
void add_numeric_columns(const Table& table, Layout* layout) {
  const auto is_time = [&](std::size_t i) {
    return std::find(layout->time.begin(), layout->time.end(), i) != layout->time.end();
  };
  for (const bool numeric_only : {true, false}) {
    if (!layout->measures.empty()) return;
    for (std::size_t i = 0; i < table.header().size(); ++i)
      if (!is_time(i) && (!numeric_only || is_numeric_column(table, i)))
        layout->measures.push_back(measure(i, find_unit(table.header()[i])));
  }
}

}  // namespace

Layout recognize(const Table& table, const std::string& format) {
  const Header header(table);
  if (table.header().size() < 2)
    fail(ExitCode::bad_data,
         "{}: line 1: one column: not a signal; it needs a column of instants and one per region",
         table.name());
  bool known = false;
  for (const TableFormat& candidate : kFormats) {
    if (format != "auto" && format != candidate.name) continue;
    known = true;
    auto layout = candidate.recognize(table, header);
    if (!layout) continue;
    layout->format = candidate.name;
    if (layout->columns_are_regions) add_numeric_columns(table, &*layout);
    return *layout;
  }
  if (!known)
    fail(ExitCode::usage, "signal.format = '{}': no such format; spillway signal formats lists them", format);
  if (format != "auto")
    fail(ExitCode::bad_data, "{}: line 1: the header is not that of format {}; try --signal.format auto",
         table.name(), format);
  fail(ExitCode::bad_data,
       "{}: line 2: '{}' is not an instant such as 2026-01-11T17:05:00Z, nor is another cell", table.name(),
       table.rows() == 0 ? "" : shown(table.cell(0, 0)));
}

std::vector<FormatName> table_formats() {
  std::vector<FormatName> names;
  for (const TableFormat& format : kFormats) names.push_back({format.name, format.about});
  return names;
}

bool is_blank(std::string_view cell) {
  static constexpr std::array<std::string_view, 9> kWords = {"",    "NaN", "nan", "null", "NULL",
                                                             "N/A", "n/e", "-",   "NA"};
  return std::find(kWords.begin(), kWords.end(), cell) != kWords.end();
}

std::optional<double> parse_number(std::string_view cell) {
  double value = 0;
  if (cell.starts_with('+')) cell.remove_prefix(1);
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace spillway
