#include "energy/http.hpp"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

constexpr std::size_t kLargestBody = std::size_t{64} << 20;

struct Handles {
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl{curl_easy_init(), curl_easy_cleanup};
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers{nullptr, curl_slist_free_all};
};

std::size_t take_body(char* data, std::size_t, std::size_t bytes, void* body) {
  auto& text = *static_cast<std::string*>(body);
  if (text.size() + bytes > kLargestBody) return 0;
  text.append(data, bytes);
  return bytes;
}

int check_stop(void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return stop != nullptr && static_cast<const std::atomic<bool>*>(stop)->load() ? 1 : 0;
}

std::string host_of(const std::string& url) {
  const auto scheme = url.find("://");
  std::string rest = scheme == std::string::npos ? url : url.substr(scheme + 3);
  rest = rest.substr(0, rest.find_first_of("/?#"));
  if (const auto at = rest.rfind('@'); at != std::string::npos) rest = rest.substr(at + 1);
  if (rest.starts_with("[")) return rest.substr(0, rest.find(']') + 1);
  return rest.substr(0, rest.find(':'));
}

bool is_this_machine(const std::string& url) {
  const std::string host = host_of(url);
  return host == "127.0.0.1" || host == "localhost" || host == "[::1]";
}

void check_address(const HttpRequest& request) {
  const bool https = request.url.starts_with("https://"), http = request.url.starts_with("http://");
  if (!https && !http)
    fail(ExitCode::usage, "signal.url = '{}': must start with https:// (or http://)", shown_url(request.url));
  const bool has_key = !request.user_password.empty() || !request.headers.empty();
  if (http && has_key && !is_this_machine(request.url))
    fail(ExitCode::usage, "signal.url = '{}': a key goes over https:// only", shown_url(request.url));
}

// One attempt; the error's text where there is no answer.
std::string attempt(const HttpRequest& request, const HttpOptions& options, HttpAnswer* answer,
                    double* retry_after_s) {
  Handles handles;
  CURL* curl = handles.curl.get();
  if (curl == nullptr) fail(ExitCode::io, "libcurl does not start");
  for (const std::string& header : request.headers) {
    curl_slist* longer = curl_slist_append(handles.headers.get(), header.c_str());
    handles.headers.release();
    handles.headers.reset(longer);
  }
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, handles.headers.get());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "spillway");
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  if (!options.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options.ca_file.c_str());
  if (is_this_machine(request.url)) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  if (!request.user_password.empty()) {
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    curl_easy_setopt(curl, CURLOPT_USERPWD, request.user_password.c_str());
  }
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout_s * 1000));
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer->body);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, check_stop);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, options.stop);
  answer->body.clear();
  const CURLcode code = curl_easy_perform(curl);
  if (code == CURLE_WRITE_ERROR) return fmt::format("an answer of more than {} MiB", kLargestBody >> 20);
  if (code != CURLE_OK) return *error != 0 ? error : curl_easy_strerror(code);
  curl_off_t retry_s = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_s);
  *retry_after_s = static_cast<double>(retry_s);
  return "";
}

bool is_busy(long status) {
  return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

// False where it was stopped.
bool wait(double seconds, const std::atomic<bool>* stop) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (stop != nullptr && *stop) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return stop == nullptr || !*stop;
}

}  // namespace

HttpAnswer http_get(const HttpRequest& request, const HttpOptions& options) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) fail(ExitCode::io, "libcurl does not start: {}", curl_easy_strerror(started));
  check_address(request);
  double wait_s = options.first_wait_s;
  std::string trouble;
  for (int number = 1;; ++number) {
    HttpAnswer answer;
    double retry_after_s = 0;
    trouble = attempt(request, options, &answer, &retry_after_s);
    if (trouble.empty() && !is_busy(answer.status)) return answer;
    if (trouble.empty()) trouble = fmt::format("status {}", answer.status);
    if (number >= options.attempts) break;
    const double pause_s = std::min(std::max(wait_s, retry_after_s), options.longest_wait_s);
    log_debug("{}: {}; again in {:g} s", shown_url(request.url), trouble, pause_s);
    if (!wait(pause_s, options.stop)) break;
    wait_s *= 2;
  }
  fail(ExitCode::io, "{}: {} (after {} attempts)", shown_url(request.url), trouble, options.attempts);
}

std::string shown_url(const std::string& url) {
  const std::string plain = url.substr(0, url.find_first_of("?#"));
  const auto scheme = plain.find("://");
  if (scheme == std::string::npos) return plain;
  const auto path = plain.find('/', scheme + 3);
  const auto at = plain.rfind('@', path);
  if (at == std::string::npos || at < scheme) return plain;
  return plain.substr(0, scheme + 3) + plain.substr(at + 1);
}

std::string percent_encoded(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace spillway
