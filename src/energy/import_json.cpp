// Bodies of the HTTP APIs: WattTime v3, Electricity Maps v3, UK Carbon Intensity. Files with such a body, and the live
// providers, read the same way.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "energy/import.hpp"
#include "energy/text_file.hpp"
#include "energy/units.hpp"

namespace spillway {
namespace {

using Json = nlohmann::json;

// Members of hostile documents may have any type.
std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

class JsonImport {
 public:
  JsonImport(const SignalConfig& config, Import* import) : config_(config), import_(*import) {
    rules_.zone = "UTC";
    rules_.sort = true;
  }

  void run(const Json& document) {
    import_.format = "json";
    if (document.is_object() && document.contains("error"))
      fail(ExitCode::bad_data, "{}: the answer of an API that refused: {}", import_.name,
           shown(text_of(document, "message").empty() ? text_of(document, "error")
                                                      : text_of(document, "message")));
    if (!document.is_object()) fail_foreign();
    const Json meta = document.value("meta", Json());
    if (document.contains("data") && meta.is_object())
      read_watttime(document.at("data"), meta);
    else if (document.contains("carbonIntensity") || document.contains("zone"))
      read_electricity_maps(document);
    else if (document.contains("data"))
      read_uk(document.at("data"));
    else
      fail_foreign();
    check_region();
    finish_import(std::move(samples_), rules_, config_, &import_);
  }

 private:
  [[noreturn]] void fail_foreign() const {
    fail(ExitCode::bad_data,
         "{}: JSON, but not of WattTime v3, Electricity Maps v3 or UK Carbon Intensity; check --signal.file",
         import_.name);
  }

  void set_unit(const Unit& unit) {
    import_.signal.unit = unit.name;
    import_.written_unit = unit.written;
    import_.scale = unit.scale;
  }

  void check_region() {
    const std::string& own = import_.signal.region;
    if (!own.empty()) import_.regions = {own};
    if (!config_.region.empty() && !own.empty() && own != config_.region)
      fail(ExitCode::bad_data, "{}: no region '{}'; choose with --signal.region one of: {}", import_.name,
           shown(config_.region), shown(own));
    if (own.empty()) import_.signal.region = config_.region;
  }

  const Json& list(const Json& value) const {
    if (!value.is_array()) fail_foreign();
    return value;
  }

  // Adds a point; a value that is null is missing.
  void add(const Json& point, const char* time_key, const char* value_key, const char* end_key = nullptr) {
    ++import_.rows;
    const std::size_t number = import_.rows;
    if (!point.is_object() || !point.contains(value_key)) fail_point(number, time_key, value_key);
    const auto stamp = parse_stamp(text_of(point, time_key), DateOrder::unknown);
    if (!stamp) fail_point(number, time_key, value_key);
    const Json& value = point.at(value_key);
    if (value.is_null()) {
      ++import_.blanks;
      return;
    }
    if (!value.is_number()) fail_point(number, time_key, value_key);
    RawSample sample;
    sample.stamp = *stamp;
    sample.line = number;
    sample.value = value.get<double>();
    if (end_key != nullptr) sample.end = parse_stamp(text_of(point, end_key), DateOrder::unknown);
    samples_.push_back(sample);
  }

  [[noreturn]] void fail_point(std::size_t number, const char* time_key, const char* value_key) const {
    fail(ExitCode::bad_data, "{}: point {}: no instant '{}' with a number '{}'", import_.name, number,
         time_key, value_key);
  }

  void read_watttime(const Json& data, const Json& meta) {
    import_.format = "watttime-v3-json";
    import_.column = rules_.time_column = "point_time";
    import_.column = "value";
    const std::string signal_type = text_of(meta, "signal_type");
    import_.kind = signal_type == "co2_aoer" ? "average carbon intensity" : "marginal carbon intensity";
    const auto unit = find_unit(text_of(meta, "units"));
    if (!unit)
      fail(ExitCode::bad_data, "{}: meta: unknown units '{}'", import_.name, shown(text_of(meta, "units")));
    set_unit(*unit);
    import_.signal.region = text_of(meta, "region");
    if (const auto period = meta.find("data_point_period_seconds");
        period != meta.end() && period->is_number())
      rules_.step_s = period->get<double>();
    // Past forecasts: the one that was made last.
    const bool forecasts = !list(data).empty() && data.back().is_object() && data.back().contains("forecast");
    if (forecasts && data.size() > 1)
      import_.warnings.push_back(fmt::format("{} forecasts: the last is taken", data.size()));
    for (const Json& point : list(forecasts ? data.back().at("forecast") : data))
      add(point, "point_time", "value");
    if (unit->name == kPercentileUnit) check_percentiles();
  }

  void check_percentiles() {
    import_.kind = "percentile of the " + import_.kind;
    for (const RawSample& sample : samples_)
      if (!(sample.value >= 0 && sample.value <= 100))
        fail(ExitCode::bad_data, "{}: point {}: {} is no percentile from 0 to 100", import_.name, sample.line,
             sample.value);
  }

  void read_electricity_maps(const Json& document) {
    import_.format = "electricity-maps-json";
    rules_.time_column = "datetime";
    import_.column = "carbonIntensity";
    import_.kind = "average carbon intensity";
    set_unit({kIntensityUnit, 1, kIntensityUnit});
    import_.signal.region = text_of(document, "zone");
    if (document.contains("carbonIntensity")) {
      rules_.step_s = 3600;
      add(document, "datetime", "carbonIntensity");
      return;
    }
    for (const char* key : {"history", "forecast", "data"})
      if (document.contains(key)) {
        for (const Json& point : list(document.at(key))) add(point, "datetime", "carbonIntensity");
        return;
      }
    fail_foreign();
  }

  void read_uk(const Json& data) {
    import_.format = "uk-carbon-intensity-json";
    rules_.time_column = "from";
    import_.kind = "average carbon intensity";
    import_.columns = {"actual", "forecast"};
    import_.column = config_.column.empty() ? "actual" : config_.column;
    if (import_.column != "actual" && import_.column != "forecast")
      fail(ExitCode::bad_data, "{}: no column '{}'; choose with --signal.column one of: actual, forecast",
           import_.name, shown(config_.column));
    if (config_.column.empty())
      import_.warnings.push_back(
          "of the columns actual, forecast, the first is taken; --signal.column changes it");
    set_unit({kIntensityUnit, 1, kIntensityUnit});
    rules_.step_s = 1800;
    for (const Json& point : list(data)) {
      if (!point.is_object() || !point.contains("intensity") || !point.at("intensity").is_object())
        fail_foreign();
      Json flat = point.at("intensity");
      flat["from"] = text_of(point, "from");
      flat["to"] = text_of(point, "to");
      add(flat, "from", import_.column.c_str(), "to");
    }
  }

  const SignalConfig& config_;
  Import& import_;
  SampleRules rules_;
  std::vector<RawSample> samples_;
};

}  // namespace

void import_json(const std::string& text, const SignalConfig& config, Import* import) {
  // Deep nesting would exhaust the stack of a recursive reader; no signal nests so deep.
  constexpr int kDeepest = 32;
  const auto depth_limit = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kDeepest) throw std::length_error("nested too deep");
    return true;
  };
  Json document;
  try {
    document = Json::parse(text, depth_limit);
  } catch (const std::exception& error) {
    fail(ExitCode::bad_data, "{}: not JSON ({}); is the file truncated?", import->name, shown(error.what()));
  }
  JsonImport(config, import).run(document);
}

}  // namespace spillway
