// Tables: rows become samples as the layout says.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "core/error.hpp"
#include "energy/formats.hpp"
#include "energy/import.hpp"
#include "energy/table.hpp"

namespace spillway {
namespace {

class TableImport {
 public:
  TableImport(const Table& table, const SignalConfig& config, Import* import)
      : table_(table), config_(config), import_(*import), layout_(recognize(table, config.format)) {}

  // column: overrides the choice among the format's measures, in the unit of the first.
  void run(std::optional<std::size_t> column = std::nullopt) {
    if (column) layout_.measures = {{*column, layout_.measures.front().unit, ""}};
    import_.format = layout_.format;
    import_.kind = layout_.kind;
    import_.rows = table_.rows();
    choose_measure();
    if (layout_.region) choose_region();
    choose_unit();
    choose_date_order();
    std::vector<RawSample> samples = read_samples();
    SampleRules rules;
    rules.zone = layout_.zone;
    rules.time_column = shown(table_.header()[layout_.time[0]]);
    rules.cell_hint = table_.rows() > 0 ? shown(table_.cell(0, layout_.time[0])) : "";
    rules.stamps_end = layout_.stamps_end;
    rules.sort = layout_.sort;
    if (!layout_.event_key.empty()) {
      rules.zero_fill = true;
      rules.step_s = layout_.time_kind == TimeKind::date_and_hour && layout_.time.size() == 3 ? 300 : 3600;
    }
    if (!layout_.zone_note.empty() && config_.timezone.empty()) import_.warnings.push_back(layout_.zone_note);
    finish_import(std::move(samples), rules, config_, &import_);
  }

 private:
  std::string_view cell(std::size_t row, std::size_t column) const { return table_.cell(row, column); }
  const std::string& column_name(std::size_t column) const { return table_.header()[column]; }

  void choose_measure() {
    for (const Measure& measure : layout_.measures)
      import_.columns.push_back(measure.name.empty() ? column_name(measure.column) : measure.name);
    if (layout_.columns_are_regions) import_.regions = import_.columns;
    const std::string& wanted =
        config_.column.empty() && layout_.columns_are_regions ? config_.region : config_.column;
    if (!wanted.empty()) {
      const auto found = std::find(import_.columns.begin(), import_.columns.end(), wanted);
      if (found == import_.columns.end())
        fail(ExitCode::bad_data, "{}: line 1: no {} '{}'; choose with --signal.{} one of: {}", table_.name(),
             config_.column.empty() ? "region" : "column", shown(wanted),
             config_.column.empty() ? "region" : "column", listed(import_.columns));
      measure_ = layout_.measures[static_cast<std::size_t>(found - import_.columns.begin())];
    } else {
      if (layout_.columns_are_regions && layout_.measures.size() > 1)
        fail(ExitCode::usage, "{}: several regions: choose one with --signal.region: {}", table_.name(),
             listed(import_.columns));
      measure_ = layout_.measures.front();
      if (layout_.measures.size() > 1)
        import_.warnings.push_back(fmt::format(
            "of the columns {}, the first is taken; --signal.column changes it", listed(import_.columns)));
    }
    import_.column = measure_.name.empty() ? column_name(measure_.column) : measure_.name;
    // A file that names no region takes the name that the user gives it.
    import_.signal.region =
        layout_.columns_are_regions || config_.region.empty() ? import_.column : config_.region;
  }

  void choose_region() {
    std::set<std::string> regions;
    for (std::size_t row = 0; row < table_.rows(); ++row) regions.emplace(cell(row, *layout_.region));
    import_.regions.assign(regions.begin(), regions.end());
    if (config_.region.empty()) {
      if (regions.size() > 1)
        fail(ExitCode::usage, "{}: several regions: choose one with --signal.region: {}", table_.name(),
             listed(import_.regions));
      import_.signal.region = regions.empty() ? "" : *regions.begin();
    } else if (!regions.contains(config_.region)) {
      fail(ExitCode::bad_data, "{}: column {}: no region '{}'; choose with --signal.region one of: {}",
           table_.name(), shown(column_name(*layout_.region)), shown(config_.region),
           listed(import_.regions));
    }
  }

  void choose_unit() {
    std::optional<Unit> unit = measure_.unit;
    if (!config_.unit.empty()) {
      unit = find_unit(config_.unit);
      if (!unit)
        fail(ExitCode::usage,
             "signal.unit = '{}': use g/kWh, kg/kWh, lb/MWh, t/MWh, EUR/MWh, USD/MWh, AUD/MWh, MW …",
             config_.unit);
    }
    if (!unit) {
      import_.warnings.push_back(fmt::format(
          "column {}: no unit is stated: taken as g/kWh; --signal.unit changes it", shown(import_.column)));
      unit = Unit{kIntensityUnit, 1, kIntensityUnit};
    }
    import_.signal.unit = unit->name;
    import_.written_unit = unit->written;
    import_.scale = unit->scale;
  }

  void choose_date_order() {
    if (config_.date_order == "dmy" || config_.date_order == "mdy") {
      order_ = config_.date_order == "dmy" ? DateOrder::day_first : DateOrder::month_first;
      return;
    }
    if (config_.date_order != "auto")
      fail(ExitCode::usage, "signal.date-order = '{}': must be auto, dmy or mdy", config_.date_order);
    bool slashes = false;
    for (std::size_t row = 0; row < table_.rows() && order_ == DateOrder::unknown; ++row) {
      const std::string_view text = cell(row, layout_.time[0]);
      order_ = date_order_of(text);
      const auto slash = text.find('/');
      slashes = slashes || (slash != std::string_view::npos && slash <= 2);
    }
    if (order_ == DateOrder::unknown && slashes)
      import_.warnings.push_back(
          fmt::format("column {}: day or month first? Taken as day/month/year; --signal.date-order "
                      "dmy|mdy changes it",
                      shown(column_name(layout_.time[0]))));
  }

  bool is_wanted(std::size_t row) const {
    if (layout_.region && cell(row, *layout_.region) != import_.signal.region) return false;
    for (const Filter& filter : layout_.filters)
      if (std::find(filter.values.begin(), filter.values.end(), cell(row, filter.column)) ==
          filter.values.end())
        return false;
    return true;
  }

  std::vector<RawSample> read_samples() {
    std::vector<RawSample> samples;
    const bool events = !layout_.event_key.empty();
    if (layout_.time_kind == TimeKind::date_and_hour || layout_.time_kind == TimeKind::parts_and_hour)
      find_hours();
    std::set<std::string> seen;
    std::map<std::pair<WallSeconds, double>, std::size_t> event_at;
    std::size_t repeated = 0;
    for (std::size_t row = 0; row < table_.rows(); ++row) {
      if (!is_wanted(row)) continue;
      const std::string_view text = cell(row, measure_.column);
      if (is_blank(text)) {
        ++import_.blanks;
        continue;
      }
      const auto value = parse_number(text);
      if (!value)
        fail(ExitCode::bad_data,
             "{}: line {}: column {}: '{}' is not a number; correct it or leave the cell blank",
             table_.name(), table_.line(row), shown(import_.column), shown(text));
      RawSample sample = read_time(row);
      sample.line = table_.line(row);
      sample.value = *value;
      if (!events) {
        samples.push_back(sample);
        continue;
      }
      if (!seen.insert(event_key(row)).second) {
        ++repeated;
        continue;
      }
      const auto [at, is_new] =
          event_at.emplace(std::pair(sample.stamp.wall_s, sample.since_midnight_s), samples.size());
      if (is_new)
        samples.push_back(sample);
      else
        samples[at->second].value += sample.value;
    }
    if (repeated > 0)
      import_.warnings.push_back(
          fmt::format("{} rows repeat an event (same time, reason and fuel): left out", repeated));
    return samples;
  }

  // Case differs between reports of one event.
  std::string event_key(std::size_t row) const {
    std::string key;
    for (const std::size_t column : layout_.event_key) {
      for (const char c : cell(row, column))
        key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      key += '\n';
    }
    return key;
  }

  [[noreturn]] void fail_time(std::size_t row, std::size_t column, const char* expected) const {
    fail(ExitCode::bad_data, "{}: line {}: column {}: '{}' is not {}", table_.name(), table_.line(row),
         shown(column_name(column)), shown(cell(row, column)), expected);
  }

  Stamp read_stamp(std::size_t row, std::size_t column, std::string_view text) const {
    const auto stamp = parse_stamp(text, order_);
    if (!stamp) fail_time(row, column, "an instant such as 2026-01-11T17:05:00Z");
    return *stamp;
  }

  int read_whole(std::size_t row, std::size_t column, int least, int most) const {
    const std::string_view text = cell(row, column);
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
      fail_time(row, column, fmt::format("a whole number from {} to {}", least, most).c_str());
    return value;
  }

  // Hours count 1…24 and end there, or 0…23 and begin there: the numbers themselves tell.
  void find_hours() {
    const std::size_t column = layout_.time[layout_.time_kind == TimeKind::parts_and_hour ? 3 : 1];
    int least = 25;
    for (std::size_t row = 0; row < table_.rows(); ++row)
      least = std::min(least, read_whole(row, column, 0, 25));
    hour_ending_ = least > 0;
  }

  RawSample read_time(std::size_t row) const {
    const std::vector<std::size_t>& time = layout_.time;
    RawSample sample;
    switch (layout_.time_kind) {
      case TimeKind::stamp:
        sample.stamp = read_stamp(row, time[0], cell(row, time[0]));
        if (layout_.end) sample.end = read_stamp(row, *layout_.end, cell(row, *layout_.end));
        break;
      case TimeKind::range:
        read_range(row, &sample);
        break;
      case TimeKind::date_and_time:
        sample.stamp = read_stamp(row, time[0], fmt::format("{} {}", cell(row, time[0]), cell(row, time[1])));
        break;
      case TimeKind::date_and_hour:
        sample.stamp = read_stamp(row, time[0], cell(row, time[0]));
        add_hour(row, time[1], &sample);
        if (time.size() == 3) sample.stamp.wall_s += (read_whole(row, time[2], 1, 12) - 1) * 300;
        break;
      case TimeKind::parts_and_hour:
        sample.stamp =
            read_stamp(row, time[2],
                       fmt::format("{:04}-{:02}-{:02}", read_whole(row, time[2], 1900, 2200),
                                   read_whole(row, time[0], 1, 12), read_whole(row, time[1], 1, 31)));
        add_hour(row, time[3], &sample);
        break;
      case TimeKind::settlement_period:
        sample.stamp = read_stamp(row, time[0], cell(row, time[0]));
        sample.since_midnight_s = (read_whole(row, time[1], 1, 50) - 1) * 1800.0;
        break;
    }
    return sample;
  }

  // The 25th hour of the day on which the clock is set back has no time on the wall of its own.
  void add_hour(std::size_t row, std::size_t column, RawSample* sample) const {
    const int hour = read_whole(row, column, 0, 25) - (hour_ending_ ? 1 : 0);
    if (hour == 24)
      sample->since_midnight_s = 24 * 3600.0;
    else
      sample->stamp.wall_s += hour * 3600;
  }

  // "01.01.2024 00:00 - 01.01.2024 01:00 (CET/CEST)". A name of one clock behind it settles which hour is meant.
  void read_range(std::size_t row, RawSample* sample) const {
    std::string_view text = cell(row, layout_.time[0]);
    std::string zone;
    if (const auto bracket = text.rfind(" ("); bracket != std::string_view::npos && text.ends_with(')')) {
      zone = text.substr(bracket);
      text = text.substr(0, bracket);
      if (zone.find('/') != std::string::npos) zone.clear();
    }
    const auto dash = text.find(" - ");
    if (dash == std::string_view::npos) fail_time(row, layout_.time[0], "an interval 'begin - end'");
    std::string_view begin = text.substr(0, dash);
    std::string first(begin);
    // Either end may carry its own zone, or the one behind the interval is that of both.
    if (!zone.empty() && !begin.ends_with(')')) first += zone;
    sample->stamp = read_stamp(row, layout_.time[0], first);
    const auto end = parse_stamp(text.substr(dash + 3), order_);
    if (!end) fail_time(row, layout_.time[0], "an interval 'begin - end'");
    sample->end = *end;
    // The length is the same on any clock that does not jump in between; where it does, the step stands in.
    sample->end->offset_s = sample->stamp.offset_s;
  }

  const Table& table_;
  const SignalConfig& config_;
  Import& import_;
  Layout layout_;
  Measure measure_;
  DateOrder order_ = DateOrder::unknown;
  bool hour_ending_ = false;
};

}  // namespace

void import_table(const Table& table, const SignalConfig& config, Import* import) {
  TableImport(table, config, import).run();
}

std::vector<Import> import_forecasts(const SignalConfig& config) {
  const Table table(load_text(config.file));
  SignalConfig plain = config;
  plain.column.clear();
  std::vector<Import> forecasts;
  for (;;) {
    const std::string name = fmt::format("f{}", forecasts.size() + 1);
    const auto column = std::find(table.header().begin(), table.header().end(), name);
    if (column == table.header().end()) break;
    Import& import = forecasts.emplace_back();
    import.name = table.name();
    TableImport(table, plain, &import).run(static_cast<std::size_t>(column - table.header().begin()));
  }
  if (forecasts.empty())
    fail(ExitCode::bad_data,
         "{}: line 1: no forecasts: no column f1; simulate.forecast = yesterday needs none", table.name());
  return forecasts;
}

}  // namespace spillway
