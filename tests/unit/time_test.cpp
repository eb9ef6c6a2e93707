#include "core/time.hpp"

#include "tests/catch.hpp"

using namespace spillway;

TEST_CASE("instants are read with every zone spelling and printed as UTC") {
  const double expected = 1768150800;  // date -u -d 2026-01-11T17:00:00 +%s
  for (const char* text :
       {"2026-01-11T17:00:00Z", "2026-01-11 17:00:00+00:00", "2026-01-11T17:00Z", "2026-01-11 09:00:00-08:00",
        "2026-01-12T03:30:00+1030", "2026-01-11T17:00:00.000Z"}) {
    INFO(text);
    bool had_zone = false;
    REQUIRE(parse_utc(text, &had_zone).value() == expected);
    REQUIRE(had_zone);
  }
  bool had_zone = true;
  REQUIRE(parse_utc("2026-01-11 17:00:00", &had_zone).value() == expected);
  REQUIRE_FALSE(had_zone);
  REQUIRE(format_utc(expected) == "2026-01-11T17:00:00Z");
}

TEST_CASE("what is not an instant is refused") {
  for (const char* text :
       {"", "2026", "2026-01-11", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-11T25:00:00Z",
        "2026-01-11T17:00:00Q", "2026-01-11T17:00:00Z ", "11/01/2026 17:00"}) {
    INFO(text);
    REQUIRE_FALSE(parse_utc(text).has_value());
  }
}

TEST_CASE("durations are read and printed") {
  REQUIRE(parse_duration("90").value() == 90);
  REQUIRE(parse_duration("15m").value() == 900);
  REQUIRE(parse_duration("1h30m").value() == 5400);
  REQUIRE(parse_duration("250ms").value() == 0.25);
  for (const char* text : {"", "m", "15x", "1h30", "inf", "nan"}) {
    INFO(text);
    REQUIRE_FALSE(parse_duration(text).has_value());
  }
  for (const double seconds : {0.0, 0.25, 1.0, 59.0, 60.0, 900.0, 5400.0, 86400.0, 90061.0})
    REQUIRE(parse_duration(format_duration(seconds)).value() == seconds);
}
