// Formats of markets and grid operators: prices, settlement, curtailed power.
#include <algorithm>

#include "energy/formats_known.hpp"

namespace spillway::formats {

std::optional<Layout> aemo_price_demand(const Table& table, const Header& header) {
  const Column time = header.find("settlementdate"), region = header.find("region"),
               price = header.find("rrp");
  if (table.is_mms() || !time || !region || !price) return std::nullopt;
  Layout layout;
  layout.kind = "price";
  layout.time = {*time};
  layout.zone = "+10:00";
  layout.stamps_end = true;
  layout.region = region;
  layout.measures = existing({{price, plain("AUD/MWh")}, {header.find("totaldemand"), plain("MW")}});
  return layout;
}

std::optional<Layout> aemo_mms(const Table& table, const Header& header) {
  const Column time = header.find("settlementdate"), region = header.find("regionid");
  if (!table.is_mms() || !time || !region) return std::nullopt;
  Layout layout;
  layout.kind = "price";
  layout.time = {*time};
  layout.zone = "+10:00";
  layout.stamps_end = true;
  layout.sort = true;
  layout.region = region;
  layout.measures =
      existing({{header.find("rrp"), plain("AUD/MWh")}, {header.find("totaldemand"), plain("MW")}});
  if (const Column intervention = header.find("intervention"))
    layout.filters.push_back({*intervention, {"0"}});
  if (layout.measures.empty()) return std::nullopt;
  return layout;
}

std::optional<Layout> caiso_oasis(const Table&, const Header& header) {
  const Column start = header.find("intervalstarttime_gmt"), end = header.find("intervalendtime_gmt");
  Column value = header.find("mw");
  for (const char* other : {"value", "prc"})
    if (!value) value = header.find(other);
  if (!start || !end || !value) return std::nullopt;
  Layout layout;
  layout.kind = "price";
  layout.time = {*start};
  layout.end = end;
  layout.zone = "UTC";
  layout.sort = true;
  layout.region = header.find("node");
  layout.measures = {measure(*value, plain("USD/MWh"))};
  if (const Column type = header.find("lmp_type")) layout.filters.push_back({*type, {"LMP"}});
  return layout;
}

// The daily report: as CSV with a column per part of the date, or with the headers of the PDF.
std::optional<Layout> caiso_curtailment_report(const Table&, const Header& header) {
  Layout layout;
  layout.kind = "curtailed power";
  layout.zone = "America/Los_Angeles";
  layout.sort = true;
  std::vector<Column> key;
  Column energy = header.find("curtailed_mwh"), power = header.find("curtailed_mw");
  if (energy) {
    layout.time_kind = TimeKind::parts_and_hour;
    key = {header.find("month"),
           header.find("day"),
           header.find("year"),
           header.find("hour"),
           header.find("curtailment_type"),
           header.find("reason"),
           header.find("fuel_type")};
  } else {
    layout.time_kind = TimeKind::date_and_hour;
    energy = header.find("curtailed mwh");
    power = header.find("curtailed mw");
    key = {header.find("date"), header.find("hour"), header.find("curt type"), header.find("reason"),
           header.find("fuel type")};
  }
  if (!energy || std::find(key.begin(), key.end(), std::nullopt) != key.end()) return std::nullopt;
  for (const Column& column : key) layout.event_key.push_back(*column);
  const std::size_t parts = layout.time_kind == TimeKind::parts_and_hour ? 4 : 2;
  layout.time.assign(layout.event_key.begin(), layout.event_key.begin() + static_cast<std::ptrdiff_t>(parts));
  // Energy of one hour: its mean power.
  layout.measures = existing({{energy, Unit{"MW", 1, "MWh in one hour"}}, {power, plain("MW")}});
  return layout;
}

std::optional<Layout> caiso_curtailment_5min(const Table&, const Header& header) {
  const Column date = header.find("date"), hour = header.find("hour"), interval = header.find("interval");
  const Column wind = header.find("wind curtailment"), solar = header.find("solar curtailment");
  if (!date || !hour || !interval || (!wind && !solar)) return std::nullopt;
  Layout layout;
  layout.kind = "curtailed power";
  layout.time_kind = TimeKind::date_and_hour;
  layout.time = {*date, *hour, *interval};
  layout.zone = "America/Los_Angeles";
  layout.sort = true;
  layout.event_key = layout.time;
  if (const Column reason = header.find("reason")) layout.event_key.push_back(*reason);
  layout.measures = existing({{solar, plain("MW")}, {wind, plain("MW")}});
  return layout;
}

std::optional<Layout> entsoe_prices(const Table& table, const Header& header) {
  if (header.size() < 2 || !(header[0].starts_with("mtu") || header[0].starts_with("time (")))
    return std::nullopt;
  if (table.rows() == 0 || table.cell(0, 0).find(" - ") == std::string_view::npos) return std::nullopt;
  Column price = header.find_containing("day-ahead price");
  if (!price) price = header.find_containing("/mwh");
  if (!price) return std::nullopt;
  Layout layout;
  layout.kind = "price";
  layout.time_kind = TimeKind::range;
  layout.time = {0};
  layout.zone = zone_in_header(header[0]);
  layout.region = header.find("area");
  layout.measures = {measure(*price, find_unit(header[*price]))};
  if (const Column sequence = header.find("sequence"))
    layout.filters.push_back({*sequence, {"Without Sequence", "Sequence 1", "Sequence Sequence 1", ""}});
  return layout;
}

std::optional<Layout> entsoe_bulk(const Table&, const Header& header) {
  const Column time = header.find("datetime(utc)"), area = header.find("areacode");
  const Column resolution = header.find("resolutioncode");
  if (!time || !area || !resolution) return std::nullopt;
  Layout layout;
  layout.kind = "price";
  layout.time = {*time};
  layout.zone = "UTC";
  layout.sort = true;
  layout.region = area;
  for (std::size_t i = 0; i < header.size(); ++i)
    if (header[i].find("price") != std::string::npos || header[i].find("value") != std::string::npos)
      layout.measures.push_back(measure(i, find_unit(header[i])));
  if (layout.measures.empty()) return std::nullopt;
  return layout;
}

std::optional<Layout> elexon(const Table&, const Header& header) {
  const Column date = header.find("settlement date"), period = header.find("settlement period");
  if (!date || !period) return std::nullopt;
  Layout layout;
  layout.kind = "settlement data";
  layout.time_kind = TimeKind::settlement_period;
  layout.time = {*date, *period};
  layout.zone = "Europe/London";
  layout.sort = true;
  layout.columns_are_regions = true;
  return layout;
}

}  // namespace spillway::formats
