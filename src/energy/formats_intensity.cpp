// Formats of carbon intensity.
#include <algorithm>

#include "energy/formats_known.hpp"

namespace spillway::formats {

std::optional<Layout> watttime_v3(const Table&, const Header& header) {
  const Column time = header.find("point_time"), value = header.find("value");
  if (!time || !value) return std::nullopt;
  Layout layout;
  layout.kind = "marginal carbon intensity";
  layout.time = {*time};
  layout.measures = {measure(*value, intensity(0.45359237, "lb/MWh"))};
  return layout;
}

// The study's files, and what `spillway signal convert` writes: "NAME" in g/kWh, "NAME (UNIT)" for other units.
std::optional<Layout> study(const Table& table, const Header& header) {
  if (header.size() < 2 || header[0] != "point_time") return std::nullopt;
  Layout layout;
  layout.kind = "marginal carbon intensity";
  layout.time = {0};
  layout.columns_are_regions = true;
  for (std::size_t i = 1; i < header.size(); ++i) {
    Measure column = measure(i, intensity());
    const std::string& name = table.header()[i];
    const auto bracket = name.rfind(" (");
    const auto unit = bracket == std::string::npos ? std::nullopt : find_unit(name.substr(bracket));
    if (unit) {
      column = {i, unit, name.substr(0, bracket)};
      layout.kind = "as named";
    }
    layout.measures.push_back(column);
  }
  return layout;
}

std::optional<Layout> watttime_v2(const Table&, const Header& header) {
  const Column time = header.find("timestamp"), value = header.find("moer");
  if (!time || !value) return std::nullopt;
  Layout layout;
  layout.kind = "marginal carbon intensity";
  layout.time = {*time};
  layout.measures = {measure(*value, intensity(0.45359237, "lb/MWh"))};
  return layout;
}

std::optional<Layout> sgip(const Table&, const Header& header) {
  Layout layout;
  layout.kind = "marginal carbon intensity";
  const Column time = header.find("time"), stamp = header.find("timestamp");
  if (time && header.find("moer")) {
    layout.time = {*time};
    layout.measures = {measure(*header.find("moer"), intensity(1000, "kg/kWh"))};
    return layout;
  }
  layout.measures = existing({{header.find("moer version 2.0"), intensity(1000, "kg/kWh")},
                              {header.find("moer version 1.0"), intensity(1000, "kg/kWh")}});
  if (!stamp || layout.measures.empty()) return std::nullopt;
  layout.time = {*stamp};
  return layout;
}

std::optional<Layout> electricity_maps(const Table&, const Header& header) {
  const Column time = header.find("datetime (utc)");
  const Column direct = header.find_containing("carbon intensity", "(direct)");
  Column life_cycle = header.find_containing("carbon intensity", "(life cycle)");
  if (!life_cycle) life_cycle = header.find_containing("carbon intensity", "(lca)");
  if (!time || (!direct && !life_cycle)) return std::nullopt;
  Layout layout;
  layout.kind = "average carbon intensity";
  layout.time = {*time};
  layout.zone = "UTC";
  layout.region = header.find("zone id");
  layout.measures = existing({{life_cycle, intensity()}, {direct, intensity()}});
  return layout;
}

std::optional<Layout> uk_carbon_intensity(const Table&, const Header& header) {
  const Column time = header.find("datetime (utc)");
  const Column actual = header.find_containing("actual carbon intensity");
  const Column forecast = header.find_containing("forecast carbon intensity");
  if (!time || !actual) return std::nullopt;
  Layout layout;
  layout.kind = "average carbon intensity";
  layout.time = {*time};
  layout.zone = "UTC";
  layout.measures = existing({{actual, intensity()}, {forecast, intensity()}});
  return layout;
}

std::optional<Layout> neso(const Table&, const Header& header) {
  const Column time = header.find("datetime"), value = header.find("carbon_intensity");
  if (!time || !value || !header.find("wind_emb")) return std::nullopt;
  Layout layout;
  layout.kind = "average carbon intensity";
  layout.time = {*time};
  layout.zone = "UTC";
  layout.measures = {measure(*value, intensity())};
  return layout;
}

std::optional<Layout> open_electricity(const Table&, const Header& header) {
  if (header.size() < 2 || header[0] != "date") return std::nullopt;
  const Column emissions = header.find_containing("emissions intensity - "),
               price = header.find_containing("price - ");
  if (!emissions && !price) return std::nullopt;
  Layout layout;
  layout.kind = emissions ? "average carbon intensity" : "price";
  layout.time = {0};
  layout.zone = "+10:00";
  layout.zone_note = "stamps without a zone are taken as +10:00, the NEM's; --signal.timezone changes it";
  for (const Column& column : {emissions, price})
    if (column) layout.measures.push_back(measure(*column, find_unit(header[*column])));
  return layout;
}

std::optional<Layout> date_hour(const Table&, const Header& header) {
  const Column date = header.find("date"), hour = header.find("hour"), value = header.find("ci");
  if (!date || !hour || !value) return std::nullopt;
  Layout layout;
  layout.kind = "carbon intensity";
  layout.time_kind = TimeKind::date_and_time;
  layout.time = {*date, *hour};
  layout.measures = {measure(*value, std::nullopt)};
  return layout;
}

}  // namespace spillway::formats
