// What kinds of signal tables there are, and what their columns mean.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "energy/table.hpp"
#include "energy/units.hpp"

namespace spillway {

// How a row says when.
enum class TimeKind {
  stamp,          // one cell: an instant
  range,          // one cell: "begin - end"
  date_and_time,  // two cells
  date_and_hour,  // a date and an hour 0…23 or 1…24 (ending; 25 on the long day), with 5-minute intervals 1…12 or without
  parts_and_hour,     // month, day, year, hour
  settlement_period,  // a date and a half hour 1…46, 48 or 50
};

// A column that can be the signal.
struct Measure {
  std::size_t column = 0;
  std::optional<Unit> unit;  // nothing: neither format nor header says
  std::string name;          // empty: as in the header
};

// Rows that count: those whose cell is one of the values. A filter that no row passes fails.
struct Filter {
  std::size_t column = 0;
  std::vector<std::string> values;
};

// What a table was recognized as.
struct Layout {
  std::string format;
  std::string kind;  // "marginal carbon intensity"
  TimeKind time_kind = TimeKind::stamp;
  std::vector<std::size_t> time;      // as time_kind says
  std::optional<std::size_t> end;     // where the end of the interval has a column of its own
  std::string zone;                   // of stamps without one, where format or header say it
  std::string zone_note;              // a warning about that zone, where it is a guess
  bool stamps_end = false;            // stamps are ends of intervals
  bool sort = false;                  // rows come in any order
  std::optional<std::size_t> region;  // column with the region of each row
  bool columns_are_regions = false;   // each measure is a region
  std::vector<Measure> measures;      // the first is the default
  std::vector<Filter> filters;
  // Reports of events: rows with the same cells here are one; the others of an instant add up; no row means zero.
  std::vector<std::size_t> event_key;
};

// The layout of the table: of the format that was asked for, or of the first that fits it ("auto"). Throws Error(bad_data)
// where the format does not fit the header or no column holds instants, Error(usage) for an unknown format.
Layout recognize(const Table& table, const std::string& format);

// Names of all formats, with a line about each.
struct FormatName {
  const char* name;
  const char* about;
};
std::vector<FormatName> table_formats();

// Blank, or one of the words for it: NaN, null, N/A, n/e, -.
bool is_blank(std::string_view cell);
// A finite number; nothing for other text.
std::optional<double> parse_number(std::string_view cell);

}  // namespace spillway
