#include "comm/line_socket.hpp"

#include <poll.h>
#include <sys/socket.h>

#include "comm/protocol.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

// Runs both ends until `done` or five seconds have passed.
template <class Done>
bool run_until(LineSocket& a, LineSocket& b, Done done) {
  const double end = monotonic_s() + 5;
  while (!done()) {
    if (monotonic_s() > end) return false;
    pollfd entries[2] = {{a.descriptor(), a.events(), 0}, {b.descriptor(), b.events(), 0}};
    poll(entries, 2, 10);
    a.on_ready();
    b.on_ready();
  }
  return true;
}

std::string usage_error_of(const std::string& text) {
  try {
    parse_endpoint("--federation.hub", text);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("endpoints are parsed and printed") {
  CHECK(parse_endpoint("x", "hub.example:7000").host == "hub.example");
  CHECK(parse_endpoint("x", "[::1]:7000").host == "::1");
  CHECK(parse_endpoint("x", "[::1]:7000").port == 7000);
  CHECK(format_endpoint({"::1", 7}) == "[::1]:7");
  CHECK(format_endpoint({"hub", 7}) == "hub:7");
  for (const char* bad : {"hub", "hub:", ":7000", "hub:x", "hub:70000", "hub:-1", "hub:7 "})
    CHECK(usage_error_of(bad) == std::string("--federation.hub ") + bad + ": expected HOST:PORT");
}

TEST_CASE("lines cross a TCP connection") {
  Listener listener({"127.0.0.1", 0});
  LineSocket client = LineSocket::connect({"127.0.0.1", listener.port()}, 4);
  client.send("early");  // before the connection is up
  LineSocket server;
  const double end = monotonic_s() + 5;
  while (server.closed() && monotonic_s() < end)
    if (auto accepted = listener.accept(4)) server = std::move(*accepted);
  REQUIRE(server.open());
  CHECK(server.peer_address() == "127.0.0.1");
  std::optional<std::string> line;
  REQUIRE(run_until(client, server, [&] { return (line = server.next_line()).has_value(); }));
  CHECK(*line == "early");

  SECTION("the longest line arrives whole, in order with others") {
    const std::string longest(kMaxLine, 'x');
    server.send("");
    server.send(longest);
    server.send("last");
    std::vector<std::string> got;
    REQUIRE(run_until(client, server, [&] {
      while (auto next = client.next_line()) got.push_back(*next);
      return got.size() == 3;
    }));
    CHECK(got[0].empty());
    CHECK(got[1] == longest);
    CHECK(got[2] == "last");
  }
  SECTION("a longer line closes the connection") {
    client.send(std::string(kMaxLine + 1, 'x'));
    REQUIRE(run_until(client, server, [&] { return server.closed(); }));
    CHECK(server.reason() == "a line longer than 1048576 bytes");
  }
  SECTION("lines sent before the end are still read after it") {
    client.send("one");
    client.send("two");
    client.close("done");
    REQUIRE(run_until(client, server, [&] { return server.closed(); }));
    CHECK(server.reason() == "closed by the other side");
    CHECK(server.next_line() == "one");
    CHECK(server.next_line() == "two");
    CHECK(!server.next_line());
  }
  SECTION("a reader that never reads is cut off") {
    const std::string line_of_megabyte(kMaxLine, 'x');
    for (int i = 0; i < 64 && server.open(); ++i) server.send(line_of_megabyte);
    CHECK(server.closed());
    CHECK(server.reason().find("bytes unread by the other side") != std::string::npos);
  }
}

TEST_CASE("a refused connection is closed with a reason") {
  int port;
  {
    Listener listener({"127.0.0.1", 0});
    port = listener.port();
  }
  LineSocket client = LineSocket::connect({"127.0.0.1", port}, 4);
  LineSocket idle;
  CHECK(run_until(client, idle, [&] { return client.closed(); }));
  CHECK(client.reason() == "Connection refused");
}

TEST_CASE("a taken address is an error that names it") {
  Listener first({"127.0.0.1", 0});
  const int port = first.port();
  CHECK_THROWS_WITH(Listener({"127.0.0.1", port}),
                    "cannot listen on 127.0.0.1:" + std::to_string(port) + ": Address already in use");
}
