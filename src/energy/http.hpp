// HTTP GET for the signal providers, over libcurl.
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

struct HttpOptions {
  std::string ca_file;                      // certificates to trust; empty: the system's
  double timeout_s = 30;                    // of one attempt
  int attempts = 4;                         // of one request, where the server is busy or out of reach
  double first_wait_s = 1;                  // before the second attempt; doubles with each
  double longest_wait_s = 60;               // also of a server's Retry-After
  const std::atomic<bool>* stop = nullptr;  // ends requests and waits early
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // "auth-token: KEY"
  std::string user_password;         // for HTTP Basic; empty: none
};

struct HttpAnswer {
  long status = 0;
  std::string body;
};

// Certificates and host names are verified, redirections are not followed (they could take keys elsewhere). Keys go over
// https, or over http to this machine only. Answers 429, 500, 502, 503 and 504 and failures to connect are repeated after a
// growing wait. Throws Error(io) where no attempt gave an answer, Error(usage) for an address it refuses; messages name the
// address without its query and never a header. Other statuses are returned.
HttpAnswer http_get(const HttpRequest& request, const HttpOptions& options);

// The address without user and query, as messages show it.
std::string shown_url(const std::string& url);

// For a value in a query: all but letters, digits and -._~ as %XX.
std::string percent_encoded(std::string_view text);

}  // namespace spillway
