// The formats of formats.cpp: each function says whether a header is its format's, and what the columns mean.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "energy/formats.hpp"

namespace spillway::formats {

using Column = std::optional<std::size_t>;

// The header in lower case.
class Header {
 public:
  explicit Header(const Table& table);
  Column find(std::string_view name) const { return find_containing(name, "", true); }
  // The first column with both parts in its name.
  Column find_containing(std::string_view part, std::string_view other = "", bool whole = false) const;
  const std::string& operator[](std::size_t column) const { return names_[column]; }
  std::size_t size() const { return names_.size(); }

 private:
  std::vector<std::string> names_;
};

// Units of formats whose headers do not say them.
inline Unit intensity(double scale = 1, const char* written = kIntensityUnit) {
  return {kIntensityUnit, scale, written};
}
inline Unit plain(const char* name) { return {name, 1, name}; }
inline Measure measure(std::size_t column, std::optional<Unit> unit) { return {column, std::move(unit), ""}; }
// The measures whose columns exist.
std::vector<Measure> existing(std::initializer_list<std::pair<Column, Unit>> candidates);
// The zone that the name of a time column states; empty: none.
std::string zone_in_header(std::string_view name);

// Nothing where the header is another format's.
using Recognizer = std::optional<Layout>(const Table& table, const Header& header);

// formats_intensity.cpp
Recognizer watttime_v3, study, watttime_v2, sgip, electricity_maps, uk_carbon_intensity, neso,
    open_electricity, date_hour;
// formats_market.cpp
Recognizer aemo_price_demand, aemo_mms, caiso_oasis, caiso_curtailment_report, caiso_curtailment_5min,
    entsoe_prices, entsoe_bulk, elexon;

}  // namespace spillway::formats
