#include "energy/provider.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/formats.hpp"
#include "energy/provider_parts.hpp"
#include "energy/text_file.hpp"
#include "energy/units.hpp"

namespace spillway {
namespace {

constexpr double kDayS = 86400, kHourS = 3600;

[[noreturn]] void fail_none(const SignalConfig& config, const char* what) {
  fail(ExitCode::usage, "{}.provider = {} has no {}", config.section, config.provider, what);
}

class WattTime : public Provider {
 public:
  WattTime(const SignalConfig& config, const HttpOptions& options)
      : config_(config), options_(options), user_password_(read_key(config)) {
    need_region(config);
    if (user_password_.find(':') == std::string::npos)
      fail(ExitCode::usage, "{}.provider = {}: the key must be USER:PASSWORD", config.section,
           config.provider);
  }

  Signal live(double now_unix_s) override { return history(now_unix_s - 2 * kHourS, now_unix_s + 1); }

  Signal history(double from_unix_s, double to_unix_s) override {
    // A request may span 32 days, both ends included.
    return in_pieces(from_unix_s, to_unix_s, 30 * kDayS, [&](double from, double to) {
      return get("/v3/historical", fmt::format("&start={}&end={}", percent_encoded(format_utc(from)),
                                               percent_encoded(format_utc(to - 1))));
    });
  }

  Signal forecast() override { return get("/v3/forecast", "&horizon_hours=72"); }

 protected:
  Signal get(const std::string& path, const std::string& more) {
    const std::string base = base_url(config_, "https://api.watttime.org");
    const std::string url = fmt::format("{}{}?region={}&signal_type={}{}", base, path,
                                        percent_encoded(config_.region), percent_encoded(config_.type), more);
    if (token_.empty()) log_in(base);
    HttpAnswer answer = http_get({url, {"Authorization: Bearer " + token_}, ""}, options_);
    if (answer.status == 401) {  // tokens last for 30 minutes
      log_in(base);
      answer = http_get({url, {"Authorization: Bearer " + token_}, ""}, options_);
    }
    return signal_of(answer, url, config_);
  }

  const SignalConfig& config() const { return config_; }

 private:
  void log_in(const std::string& base) {
    const std::string url = base + "/login";
    const HttpAnswer answer = http_get({url, {}, user_password_}, options_);
    check_status(answer, url);
    const auto document = nlohmann::json::parse(answer.body, nullptr, false);
    if (!document.is_object() || !document.contains("token") || !document.at("token").is_string())
      fail(ExitCode::bad_data, "{}: the answer holds no token", shown_url(url));
    token_ = document.at("token").get<std::string>();
  }

  SignalConfig config_;
  HttpOptions options_;
  std::string user_password_, token_;
};

// The place of the present value among those of the month around it, 0 to 100: what accounts without a paid plan may read.
// It is no intensity: it can open a gate, and no emissions follow from it.
class WattTimeIndex final : public WattTime {
 public:
  using WattTime::WattTime;
  Signal live(double) override { return get("/v3/signal-index", ""); }
  Signal history(double, double) override { fail_none(config(), "history"); }
  Signal forecast() override { fail_none(config(), "forecast"); }
};

class ElectricityMaps final : public Provider {
 public:
  ElectricityMaps(const SignalConfig& config, const HttpOptions& options)
      : config_(config), options_(options), key_(read_key(config)) {
    need_region(config);
  }

  Signal live(double) override { return get("latest", ""); }
  Signal history(double from_unix_s, double to_unix_s) override {
    return in_pieces(from_unix_s, to_unix_s, 10 * kDayS, [&](double from, double to) {
      return get("past-range", fmt::format("&start={}&end={}", percent_encoded(format_utc(from)),
                                           percent_encoded(format_utc(to))));
    });
  }
  Signal forecast() override { return get("forecast", ""); }

 private:
  Signal get(const std::string& what, const std::string& more) {
    const std::string url = fmt::format("{}/v3/carbon-intensity/{}?zone={}{}",
                                        base_url(config_, "https://api.electricitymaps.com"), what,
                                        percent_encoded(config_.region), more);
    return signal_of(http_get({url, {"auth-token: " + key_}, ""}, options_), url, config_);
  }

  SignalConfig config_;
  HttpOptions options_;
  std::string key_;
};

class UkCarbonIntensity final : public Provider {
 public:
  UkCarbonIntensity(const SignalConfig& config, const HttpOptions& options)
      : config_(config), options_(options) {}

  // The current half hour has a forecast only.
  Signal live(double now_unix_s) override {
    return get(now_unix_s - kHourS, now_unix_s + kHourS,
               config_.column.empty() ? "forecast" : config_.column);
  }
  Signal history(double from_unix_s, double to_unix_s) override {
    return in_pieces(from_unix_s, to_unix_s, 13 * kDayS,
                     [&](double from, double to) { return get(from, to, config_.column); });
  }
  Signal forecast() override {
    const double now = now_unix_s();
    return get(now, now + 48 * kHourS, "forecast");
  }

 private:
  // Instants of this API have no seconds.
  static std::string minute(double unix_s) { return format_utc(unix_s).substr(0, 16) + "Z"; }

  Signal get(double from, double to, const std::string& column) {
    const std::string url =
        fmt::format("{}/intensity/{}/{}", base_url(config_, "https://api.carbonintensity.org.uk"),
                    minute(from), minute(to));
    SignalConfig config = config_;
    config.column = column;
    return signal_of(http_get({url, {}, ""}, options_), url, config);
  }

  SignalConfig config_;
  HttpOptions options_;
};

// One blank between header and key, as an INI file keeps none at a value's end; none after "token=".
std::string with_key(std::string header, const std::string& key) {
  while (header.ends_with(' ')) header.pop_back();
  return header + (header.ends_with('=') ? "" : " ") + key;
}

// One value of any JSON document.
class PointedJson final : public Provider {
 public:
  PointedJson(const SignalConfig& config, const HttpOptions& options)
      : config_(config), options_(options), unit_(find_unit(config.unit)) {
    if (config.url.empty()) fail(ExitCode::usage, "{0}.provider = http: {0}.url must be set", config.section);
    if (!unit_)
      fail(ExitCode::usage, "{0}.provider = http: {0}.unit = '{1}': must be a unit such as g/kWh or EUR/MWh",
           config.section, config.unit);
    value_at_ = pointer(".pointer", config.pointer);
    if (!config.time_pointer.empty()) time_at_ = pointer(".time-pointer", config.time_pointer);
    if (!config.key_file.empty() || !config.key_env.empty())
      header_ = with_key(config.key_header, read_key(config));
  }

  Signal live(double now_unix_s) override {
    HttpRequest request{config_.url, {}, ""};
    if (!header_.empty()) request.headers.push_back(header_);
    const HttpAnswer answer = http_get(request, options_);
    check_status(answer, config_.url);
    const auto document = nlohmann::json::parse(answer.body, nullptr, false);
    if (document.is_discarded())
      fail(ExitCode::bad_data, "{}: the answer is not JSON", shown_url(config_.url));
    Signal signal;
    signal.region = config_.region;
    signal.unit = unit_->name;
    signal.step_s = config_.poll_s;
    signal.times_unix_s = {time_at_ ? instant(at(document, *time_at_)) : now_unix_s};
    signal.values = {number(at(document, value_at_)) * unit_->scale};
    return signal;
  }
  Signal history(double, double) override { fail_none(config_, "history"); }
  Signal forecast() override { fail_none(config_, "forecast"); }

 private:
  using Pointer = nlohmann::json::json_pointer;

  Pointer pointer(const char* key, const std::string& text) const {
    try {
      return Pointer(text);
    } catch (const nlohmann::json::exception&) {
      fail(ExitCode::usage, "{}{} = '{}': expected a JSON pointer such as /data/0/value", config_.section,
           key, text);
    }
  }
  const nlohmann::json& at(const nlohmann::json& document, const Pointer& where) const {
    try {
      return document.at(where);
    } catch (const nlohmann::json::exception&) {
      fail(ExitCode::bad_data, "{}: the answer has no {}", shown_url(config_.url), where.to_string());
    }
  }
  double number(const nlohmann::json& value) const {
    if (value.is_number()) return value.get<double>();
    if (value.is_string())
      if (const auto parsed = parse_number(value.get<std::string>())) return *parsed;
    fail(ExitCode::bad_data, "{}: {}.pointer leads to {}, not to a number", shown_url(config_.url),
         config_.section, shown(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  }
  double instant(const nlohmann::json& value) const {
    if (value.is_number()) return value.get<double>();
    if (value.is_string())
      if (const auto parsed = parse_utc(value.get<std::string>())) return *parsed;
    fail(ExitCode::bad_data, "{}: {}.time-pointer leads to {}, not to an instant", shown_url(config_.url),
         config_.section, shown(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  }

  SignalConfig config_;
  HttpOptions options_;
  std::optional<Unit> unit_;
  Pointer value_at_;
  std::optional<Pointer> time_at_;
  std::string header_;
};

class WatchedFile final : public Provider {
 public:
  explicit WatchedFile(const SignalConfig& config) : config_(config) {
    if (config.file.empty())
      fail(ExitCode::usage, "{0}.provider = file: {0}.file must be set", config.section);
  }
  Signal live(double) override {
    std::error_code error;
    const auto changed = std::filesystem::last_write_time(config_.file, error);
    if (error || !signal_ || changed != changed_) {
      signal_ = read_signal(config_);
      changed_ = changed;
    }
    return *signal_;
  }
  Signal history(double, double) override { return live(0); }
  Signal forecast() override { return live(0); }

 private:
  SignalConfig config_;
  std::optional<Signal> signal_;
  std::filesystem::file_time_type changed_;
};

}  // namespace

std::unique_ptr<Provider> make_provider(const SignalConfig& config, const HttpOptions& given) {
  HttpOptions options = given;
  options.ca_file = config.ca_file;
  if (config.provider == "watttime-index") return std::make_unique<WattTimeIndex>(config, options);
  if (config.provider == "watttime") return std::make_unique<WattTime>(config, options);
  if (config.provider == "electricity-maps") return std::make_unique<ElectricityMaps>(config, options);
  if (config.provider == "uk-carbon-intensity") return std::make_unique<UkCarbonIntensity>(config, options);
  if (config.provider == "http") return std::make_unique<PointedJson>(config, options);
  if (config.provider == "file") return std::make_unique<WatchedFile>(config);
  fail(ExitCode::usage,
       "{}.provider = '{}': must be file, watttime, watttime-index, electricity-maps, uk-carbon-intensity or "
       "http",
       config.section, config.provider);
}

}  // namespace spillway
