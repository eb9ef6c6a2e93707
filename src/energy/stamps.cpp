#include "energy/stamps.hpp"

#include <date/date.h>
#include <date/tz.h>

#include <array>
#include <chrono>
#include <utility>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 9> kAbbreviations = {{{"Z", 0},
                                                                                      {"UTC", 0},
                                                                                      {"GMT", 0},
                                                                                      {"WET", 0},
                                                                                      {"WEST", 3600},
                                                                                      {"CET", 3600},
                                                                                      {"CEST", 7200},
                                                                                      {"EET", 7200},
                                                                                      {"EEST", 10800}}};
// Clocks that exports name by their two abbreviations.
constexpr std::array<std::pair<std::string_view, const char*>, 3> kPairs = {
    {{"CET/CEST", "Europe/Brussels"}, {"WET/WEST", "Europe/Lisbon"}, {"EET/EEST", "Europe/Helsinki"}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Moves over text; every read says whether it found what it wants.
struct Scanner {
  std::string_view text;

  bool take(char wanted) {
    if (text.empty() || text.front() != wanted) return false;
    text.remove_prefix(1);
    return true;
  }
  void skip_blanks() {
    while (take(' ')) {
    }
  }
  // 1 to `most` digits.
  std::optional<int> number(std::size_t most, std::size_t* digits = nullptr) {
    int value = 0;
    std::size_t count = 0;
    while (count < most && count < text.size() && is_digit(text[count]))
      value = value * 10 + (text[count++] - '0');
    if (digits) *digits = count;
    if (count == 0) return std::nullopt;
    text.remove_prefix(count);
    return value;
  }
};

struct WrittenDate {
  int first = 0, second = 0, third = 0;
  bool year_first = false;
  char separator = 0;
};

std::optional<WrittenDate> scan_date(Scanner* scanner) {
  WrittenDate date;
  std::size_t digits = 0;
  const auto first = scanner->number(4, &digits);
  if (!first || digits == 3 || scanner->text.empty()) return std::nullopt;
  date.first = *first;
  date.year_first = digits == 4;
  date.separator = scanner->text.front();
  if (date.separator != '-' && date.separator != '/' && date.separator != '.') return std::nullopt;
  scanner->take(date.separator);
  const auto second = scanner->number(2);
  if (!second || !scanner->take(date.separator)) return std::nullopt;
  const auto third = scanner->number(date.year_first ? 2 : 4, &digits);
  if (!third || (!date.year_first && digits != 4)) return std::nullopt;
  date.second = *second;
  date.third = *third;
  return date;
}

// Seconds since midnight, and the fraction.
std::optional<std::pair<std::int64_t, double>> scan_clock(Scanner* scanner) {
  const auto hour = scanner->number(2);
  if (!hour || !scanner->take(':')) return std::nullopt;
  const auto minute = scanner->number(2);
  if (!minute || *hour > 24 || *minute > 59) return std::nullopt;
  int second = 0;
  double fraction = 0, place = 0.1;
  if (scanner->take(':')) {
    const auto whole = scanner->number(2);
    if (!whole || *whole > 59) return std::nullopt;
    second = *whole;
    if (scanner->take('.'))
      for (; !scanner->text.empty() && is_digit(scanner->text.front());
           place /= 10, scanner->text.remove_prefix(1))
        fraction += place * (scanner->text.front() - '0');
  }
  return std::pair<std::int64_t, double>(*hour * 3600 + *minute * 60 + second, fraction);
}

// The rest of a stamp: nothing, or a zone. False: something else.
bool scan_zone(std::string_view text, std::optional<std::int64_t>* offset_s) {
  if (text.empty()) return true;
  if (text.front() == '(' && text.back() == ')') text = text.substr(1, text.size() - 2);
  for (const auto& [name, seconds] : kAbbreviations)
    if (text == name) {
      *offset_s = seconds;
      return true;
    }
  *offset_s = parse_offset(text);
  return offset_s->has_value();
}

std::optional<Stamp> parse_unix_seconds(std::string_view text) {
  if (text.size() != 10) return std::nullopt;
  std::int64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return Stamp{value, 0, 0};
}

}  // namespace

std::optional<std::int64_t> parse_offset(std::string_view text) {
  if (text.starts_with("UTC")) text.remove_prefix(3);
  Scanner scanner{text};
  const bool west = scanner.take('-');
  if (!west && !scanner.take('+')) return std::nullopt;
  const auto hours = scanner.number(2);
  std::int64_t minutes = 0;
  if (hours && !scanner.text.empty()) {
    scanner.take(':');
    std::size_t digits = 0;
    minutes = scanner.number(2, &digits).value_or(0);
    if (digits != 2) return std::nullopt;
  }
  if (!hours || *hours > 15 || minutes > 59 || !scanner.text.empty()) return std::nullopt;
  return (west ? -1 : 1) * (*hours * 3600 + minutes * 60);
}

DateOrder date_order_of(std::string_view text) {
  Scanner scanner{text};
  const auto date = scan_date(&scanner);
  if (!date || date->year_first || date->separator != '/') return DateOrder::unknown;
  if (date->first > 12) return DateOrder::day_first;
  return date->second > 12 ? DateOrder::month_first : DateOrder::unknown;
}

std::optional<Stamp> parse_stamp(std::string_view text, DateOrder order) {
  if (const auto seconds = parse_unix_seconds(text)) return seconds;
  Scanner scanner{text};
  const auto written = scan_date(&scanner);
  if (!written) return std::nullopt;
  int year = written->third, month = written->second, day = written->first;
  if (written->year_first) std::swap(year, day);
  if (!written->year_first && written->separator == '/' && order == DateOrder::month_first)
    std::swap(month, day);
  const date::year_month_day ymd{date::year(year), date::month(static_cast<unsigned>(month)),
                                 date::day(static_cast<unsigned>(day))};
  if (!ymd.ok()) return std::nullopt;
  Stamp stamp;
  stamp.wall_s = std::int64_t{date::sys_days(ymd).time_since_epoch().count()} * 86400;
  if (scanner.text.empty()) return stamp;
  if (!scanner.take('T') && scanner.text.front() != ' ') return std::nullopt;
  scanner.skip_blanks();
  const auto clock = scan_clock(&scanner);
  if (!clock) return std::nullopt;
  stamp.wall_s += clock->first;
  stamp.fraction_s = clock->second;
  scanner.skip_blanks();
  if (!scan_zone(scanner.text, &stamp.offset_s)) return std::nullopt;
  return stamp;
}

Zone::Zone(const std::string& name) : name_(name) {
  for (const auto& [abbreviation, seconds] : kAbbreviations)
    if (name == abbreviation) {
      offset_s_ = seconds;
      return;
    }
  if (const auto offset_s = parse_offset(name)) {
    offset_s_ = *offset_s;
    return;
  }
  std::string iana = name;
  for (const auto& [pair, zone] : kPairs)
    if (name == pair) iana = zone;
  try {
    tz_ = date::locate_zone(iana);
  } catch (const std::runtime_error&) {
    fail(ExitCode::usage,
         "signal.timezone = '{}': no such zone; use UTC, an offset such as +10:00, or an IANA name such as "
         "Europe/Berlin",
         name);
  }
}

std::vector<double> Zone::instants(WallSeconds wall_s) const {
  if (tz_ == nullptr) return {static_cast<double>(wall_s - offset_s_)};
  const auto* zone = static_cast<const date::time_zone*>(tz_);
  const auto info = zone->get_info(date::local_seconds{std::chrono::seconds(wall_s)});
  const auto at = [&](const date::sys_info& side) {
    return static_cast<double>(wall_s - side.offset.count());
  };
  if (info.result == date::local_info::nonexistent) return {};
  if (info.result == date::local_info::ambiguous) return {at(info.first), at(info.second)};
  return {at(info.first)};
}

}  // namespace spillway
