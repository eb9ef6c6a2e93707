#include "energy/provider_parts.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/import.hpp"
#include "energy/text_file.hpp"

namespace spillway {
namespace {

// Of an answer that refuses, in JSON or not.
std::string words_of(const std::string& body) {
  const auto document = nlohmann::json::parse(body, nullptr, false);
  for (const char* key : {"message", "error"})
    if (document.is_object() && document.contains(key) && document.at(key).is_string())
      return shown(document.at(key).get<std::string>());
  return "no reason given";
}

}  // namespace

std::string read_key(const SignalConfig& config) {
  std::string key;
  if (!config.key_file.empty()) {
    std::ifstream file(config.key_file);
    if (!file)
      fail(ExitCode::usage, "{}.key-file {}: cannot be read: check the path and its permissions",
           config.section, config.key_file);
    std::getline(file, key);
  } else if (!config.key_env.empty()) {
    const char* value = std::getenv(config.key_env.c_str());
    if (value == nullptr)
      fail(ExitCode::usage, "{}.key-env = {}: the environment has no such variable", config.section,
           config.key_env);
    key = value;
  } else {
    fail(ExitCode::usage, "{0}.provider = {1}: needs {0}.key-file or {0}.key-env", config.section,
         config.provider);
  }
  while (!key.empty() && (key.back() == '\r' || key.back() == ' ' || key.back() == '\n')) key.pop_back();
  if (key.empty()) fail(ExitCode::usage, "{0}.key-file or {0}.key-env: the key is empty", config.section);
  if (std::any_of(key.begin(), key.end(), [](unsigned char c) { return c < 0x20; }))
    fail(ExitCode::usage, "{0}.key-file or {0}.key-env: the key holds control characters", config.section);
  return key;
}

void need_region(const SignalConfig& config) {
  if (config.region.empty())
    fail(ExitCode::usage, "{0}.provider = {1}: {0}.region must be set", config.section, config.provider);
}

std::string base_url(const SignalConfig& config, const std::string& own) {
  std::string url = config.url.empty() ? own : config.url;
  while (url.ends_with('/')) url.pop_back();
  return url;
}

void check_status(const HttpAnswer& answer, const std::string& url) {
  if (answer.status == 200) return;
  if (answer.status == 401 || answer.status == 403)
    fail(ExitCode::usage, "{}: refused with status {}: {}; check the key, and what the account may read",
         shown_url(url), answer.status, words_of(answer.body));
  fail(ExitCode::bad_data, "{}: status {}: {}", shown_url(url), answer.status, words_of(answer.body));
}

Signal signal_of(const HttpAnswer& answer, const std::string& url, const SignalConfig& config) {
  check_status(answer, url);
  Import import;
  import.name = shown_url(url);
  import_json(answer.body, config, &import);
  for (const std::string& warning : import.warnings) log_debug("{}: {}", import.name, warning);
  return std::move(import.signal);
}

Signal in_pieces(double from_unix_s, double to_unix_s, double longest_s,
                 const std::function<Signal(double, double)>& ask) {
  if (!(from_unix_s < to_unix_s))
    fail(ExitCode::usage, "{} is not before {}", format_utc(from_unix_s), format_utc(to_unix_s));
  Signal whole;
  for (double from = from_unix_s; from < to_unix_s; from += longest_s) {
    const Signal piece = ask(from, std::min(from + longest_s, to_unix_s));
    whole = whole.times_unix_s.empty() ? piece : joined(whole, piece);
  }
  return whole;
}

double now_unix_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace spillway
