#include "comm/http_server.hpp"

#include <fmt/format.h>

#include "core/clock.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::size_t kMostConnections = 16;
constexpr int kMostLines = 100;    // of a request
constexpr double kLongest_s = 10;  // of a connection

Endpoint loopback(const Endpoint& at) {
  const bool good = at.host == "localhost" || at.host == "::1" || at.host.starts_with("127.");
  if (!good)
    fail(ExitCode::usage,
         "federation.metrics {}: must be an address of the loopback interface such as 127.0.0.1:9464, as "
         "nobody is "
         "authenticated; reach it through ssh -L",
         format_endpoint(at));
  return at;
}

// LineSocket ends what it sends with a newline, which is the body's last byte.
std::string response(const char* status, const HttpPage& page) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: "
      "no-store\r\n"
      "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
      "X-Content-Type-Options: nosniff\r\n{}\r\n{}",
      status, page.type, page.body.size() + 1,
      page.refresh_s > 0 ? fmt::format("Refresh: {}\r\n", page.refresh_s) : "", page.body);
}

}  // namespace

HttpServer::HttpServer(const Endpoint& at, std::function<std::optional<HttpPage>(const std::string&)> pages)
    : listener_(loopback(at)), pages_(std::move(pages)) {}

void HttpServer::step() {
  const double now_s = monotonic_s();
  while (auto socket = listener_.accept(kLongest_s)) {
    if (connections_.size() >= kMostConnections) continue;
    connections_.emplace_back();
    connections_.back().socket = std::move(*socket);
    connections_.back().since_s = now_s;
  }
  for (Connection& connection : connections_) serve(connection, now_s);
  connections_.remove_if([](const Connection& connection) { return connection.socket.closed(); });
}

void HttpServer::serve(Connection& connection, double now_s) {
  LineSocket& socket = connection.socket;
  socket.on_ready();
  while (!connection.answered) {
    const auto line = socket.next_line();
    if (!line) break;
    if (connection.lines++ == 0) connection.request = *line;
    if (connection.lines > kMostLines) return socket.close("too many headers");
    if (!line->empty() && *line != "\r") continue;
    connection.answered = true;
    socket.send(answer(connection.request));
  }
  if ((connection.answered && socket.flushed()) || now_s - connection.since_s > kLongest_s)
    socket.close("done");
}

std::string HttpServer::answer(const std::string& request) const {
  const auto first = request.find(' '), second = request.find(' ', first + 1);
  if (first == std::string::npos || second == std::string::npos)
    return response("400 Bad Request", {"text/plain", "not a request", 0});
  if (request.substr(0, first) != "GET")
    return response("405 Method Not Allowed", {"text/plain", "only GET", 0});
  const std::string target = request.substr(first + 1, second - first - 1);
  const auto page = pages_(target.substr(0, target.find('?')));
  return page ? response("200 OK", *page) : response("404 Not Found", {"text/plain", "no such page", 0});
}

}  // namespace spillway
