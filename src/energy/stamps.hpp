// Instants as signal files write them: many spellings, with and without a zone, on clocks that jump twice a year.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

// What a clock on a wall shows, in seconds since 1970-01-01 00:00 on that clock.
using WallSeconds = std::int64_t;

enum class DateOrder { unknown, day_first, month_first };

// A stamp as written.
struct Stamp {
  WallSeconds wall_s = 0;
  double fraction_s = 0;  // of a second
  std::optional<std::int64_t>
      offset_s;  // of its clock from UTC, where the stamp says so ("Z", "+10:00", "(CEST)")
};

// Reads yyyy-mm-dd or yyyy/mm/dd, dd.mm.yyyy, dd/mm/yyyy or mm/dd/yyyy (as `order` says; 'unknown' reads days first), then
// 'T' or blanks and h:mm[:ss[.f]], or nothing for midnight, then a zone or none. Ten digits are seconds since 1970, UTC.
std::optional<Stamp> parse_stamp(std::string_view text, DateOrder order);

// Whether the text settles the order of day and month: "25/12/2024" does, "05/06/2024" does not.
DateOrder date_order_of(std::string_view text);

// A clock: UTC, a fixed offset such as +10:00, or a zone of the tz database by its IANA name. "CET/CEST" and its kind are
// clocks too. Cheap to copy.
class Zone {
 public:
  // Throws Error(usage) for a name that is none of these.
  explicit Zone(const std::string& name);

  // The instants at which this clock shows wall_s: none (spring), one, or two (autumn), earlier first.
  std::vector<double> instants(WallSeconds wall_s) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::int64_t offset_s_ = 0;
  const void* tz_ = nullptr;  // a date::time_zone, which lives as long as the program; null: fixed offset
};

// "+10:00", "+1000", "-8", as seconds east of UTC.
std::optional<std::int64_t> parse_offset(std::string_view text);

}  // namespace spillway
