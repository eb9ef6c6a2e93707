#include "core/time.hpp"

#include <date/date.h>
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cmath>

namespace spillway {
namespace {

// Reads exactly `digits` decimal digits at *at and moves on; nothing where they are not there.
std::optional<int> read_digits(std::string_view text, std::size_t* at, int digits) {
  int value = 0;
  for (int i = 0; i < digits; ++i, ++*at) {
    if (*at >= text.size() || text[*at] < '0' || text[*at] > '9') return std::nullopt;
    value = value * 10 + (text[*at] - '0');
  }
  return value;
}

bool read_char(std::string_view text, std::size_t* at, char wanted) {
  if (*at >= text.size() || text[*at] != wanted) return false;
  ++*at;
  return true;
}

}  // namespace

std::string format_utc(double unix_s) {
  const date::sys_seconds instant{std::chrono::seconds(static_cast<long long>(std::floor(unix_s)))};
  return date::format("%FT%TZ", instant);
}

std::optional<double> parse_utc(std::string_view text, bool* had_zone) {
  std::size_t at = 0;
  const auto year = read_digits(text, &at, 4);
  if (!year || !read_char(text, &at, '-')) return std::nullopt;
  const auto month = read_digits(text, &at, 2);
  if (!month || !read_char(text, &at, '-')) return std::nullopt;
  const auto day = read_digits(text, &at, 2);
  if (!day || !(read_char(text, &at, 'T') || read_char(text, &at, ' '))) return std::nullopt;
  const auto hour = read_digits(text, &at, 2);
  if (!hour || !read_char(text, &at, ':')) return std::nullopt;
  const auto minute = read_digits(text, &at, 2);
  if (!minute) return std::nullopt;
  double second = 0;
  if (read_char(text, &at, ':')) {
    const auto whole = read_digits(text, &at, 2);
    if (!whole || *whole > 60) return std::nullopt;
    second = *whole;
    if (read_char(text, &at, '.')) {
      double place = 0.1;
      const std::size_t first = at;
      for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, place /= 10)
        second += place * (text[at] - '0');
      if (at == first) return std::nullopt;
    }
  }
  double offset_s = 0;
  bool zoned = true;
  if (at == text.size()) {
    zoned = false;
  } else if (text[at] == '+' || text[at] == '-') {
    const double sign = text[at++] == '+' ? 1 : -1;
    const auto offset_h = read_digits(text, &at, 2);
    read_char(text, &at, ':');
    const auto offset_min = read_digits(text, &at, 2);
    if (!offset_h || !offset_min || *offset_h > 15 || *offset_min > 59) return std::nullopt;
    offset_s = sign * (*offset_h * 3600 + *offset_min * 60);
  } else if (!read_char(text, &at, 'Z')) {
    return std::nullopt;
  }
  if (at != text.size()) return std::nullopt;
  const date::year_month_day ymd{date::year(*year), date::month(static_cast<unsigned>(*month)),
                                 date::day(static_cast<unsigned>(*day))};
  if (!ymd.ok() || *hour > 24 || *minute > 59) return std::nullopt;
  if (had_zone) *had_zone = zoned;
  const auto days = static_cast<double>(date::sys_days(ymd).time_since_epoch().count());
  return days * 86400.0 + *hour * 3600.0 + *minute * 60.0 + second - offset_s;
}

std::optional<double> parse_duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    double unit = 1;
    if (text.empty()) {
      if (total != 0) return std::nullopt;  // "1h30": is that minutes? Refuse to guess.
    } else if (text.substr(0, 2) == "ms") {
      unit = 0.001;
      text.remove_prefix(2);
    } else {
      switch (text.front()) {
        case 's':
          break;
        case 'm':
          unit = 60;
          break;
        case 'h':
          unit = 3600;
          break;
        case 'd':
          unit = 86400;
          break;
        default:
          return std::nullopt;
      }
      text.remove_prefix(1);
    }
    total += value * unit;
  }
  return total;
}

std::string format_duration(double seconds) {
  if (seconds < 0) return "-" + format_duration(-seconds);
  const double whole = std::floor(seconds);
  if (whole != seconds || seconds > 1e15) return fmt::format("{}s", seconds);
  const auto total = static_cast<long long>(whole);
  std::string text;
  if (total >= 3600) text += fmt::format("{}h", total / 3600);
  if (total % 3600 >= 60) text += fmt::format("{}m", total % 3600 / 60);
  if (total % 60 != 0 || text.empty()) text += fmt::format("{}s", total % 60);
  return text;
}

}  // namespace spillway
