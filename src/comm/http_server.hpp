// A read-only HTTP/1.1 server for people and Prometheus on the hub's own machine. Answers GET, one request per
// connection; never waits. Loopback only: it authenticates nobody.
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <string>

#include "comm/line_socket.hpp"

namespace spillway {

struct HttpPage {
  std::string type;  // of the content
  std::string body;
  int refresh_s = 0;  // browsers load it anew after this; 0: never
};

class HttpServer {
 public:
  // pages: the page of a path, without its query; nothing: 404. Throws Error(usage) where the address is not of the
  // loopback interface (127.0.0.0/8, ::1 or localhost), Error(io) where it cannot be used.
  HttpServer(const Endpoint& at, std::function<std::optional<HttpPage>(const std::string& path)> pages);

  // Accepts, reads and answers as far as possible without waiting; call it every 50 ms or so.
  void step();
  int port() const { return listener_.port(); }

 private:
  struct Connection {
    LineSocket socket;
    double since_s = 0;
    std::string request;  // its first line
    int lines = 0;
    bool answered = false;
  };
  void serve(Connection& connection, double now_s);
  std::string answer(const std::string& request) const;

  Listener listener_;
  std::function<std::optional<HttpPage>(const std::string&)> pages_;
  std::list<Connection> connections_;
};

}  // namespace spillway
