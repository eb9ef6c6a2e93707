// The hub's sockets with scripted clients on the loopback interface: good, malformed, oversized, silent and double ones.
#include "comm/hub_server.hpp"

#include <poll.h>

#include <map>
#include <random>
#include <set>

#include "comm/observer.hpp"
#include "core/clock.hpp"
#include "tests/captured_log.hpp"
#include "tests/catch.hpp"
#include "tests/quiet.hpp"

using namespace spillway;

namespace {

constexpr double kLostAfter_s = 0.6;
constexpr double kPatience_s = 20;

class Recorder final : public HubHandler {
 public:
  std::optional<Refuse> connected(double, const Hello& hello) override {
    if (!members.insert(hello.member).second) return Refuse{64, "the name is taken"};
    ++connections;
    return std::nullopt;
  }
  void received(double, const std::string& member, const Message& message) override {
    messages[member].push_back(message);
    if (std::holds_alternative<Bye>(message)) members.erase(member);
  }
  void disconnected(double, const std::string& member, const std::string& why) override {
    if (members.erase(member) != 0) lost[member] = why;
  }
  void tick(double) override { ++ticks; }
  nlohmann::json snapshot(double) override { return {{"version", 7}}; }

  std::set<std::string> members;
  std::map<std::string, std::vector<Message>> messages;
  std::map<std::string, std::string> lost;
  int connections = 0, ticks = 0;
};

struct Rig {
  Rig() : server({"127.0.0.1", 0}, kLostAfter_s, recorder) {}

  LineSocket connect() const { return LineSocket::connect({"127.0.0.1", server.port()}, 5); }
  LineSocket member(const std::string& name, const std::string& probe = "") const {
    LineSocket socket = connect();
    Hello hello;
    hello.member = name;
    hello.role = "site";
    hello.probe = probe;
    socket.send(encode(hello));
    return socket;
  }
  // Serves until the condition holds; the sockets are tended meanwhile. Those of `alive` send heartbeats.
  bool serve_until(const std::function<bool()>& condition, std::vector<LineSocket*> sockets = {},
                   std::vector<LineSocket*> alive = {}) {
    const double end_s = monotonic_s() + kPatience_s;
    while (!condition()) {
      if (monotonic_s() > end_s) return false;
      for (LineSocket* socket : sockets) socket->on_ready();
      for (LineSocket* socket : alive) {
        socket->on_ready();
        if (socket->open() && !socket->connecting()) socket->send(encode(MemberHeartbeat{}));
      }
      server.run_once(0.01);
    }
    return true;
  }

  Quiet quiet;
  Recorder recorder;
  HubServer server;
};

std::optional<Message> next_message(LineSocket& socket) {
  const auto line = socket.next_line();
  return line ? std::optional(decode(*line)) : std::nullopt;
}

}  // namespace

TEST_CASE("the hub's server hands messages on and sends answers") {
  Rig rig;
  LineSocket iowa = rig.member("iowa");
  iowa.send(encode(LeaseRequest{5}));
  REQUIRE(rig.serve_until([&] { return rig.recorder.messages["iowa"].size() == 1; }, {&iowa}));
  CHECK(std::get<LeaseRequest>(rig.recorder.messages["iowa"][0]).blocks == 5);
  rig.server.send("iowa", Lease{{{3, 8}}});
  rig.server.send("nobody", Lease{});
  std::optional<Message> answer;
  REQUIRE(rig.serve_until([&] { return (answer = next_message(iowa)).has_value(); }, {&iowa}));
  CHECK(std::get<Lease>(*answer).blocks == BlockRanges{{3, 8}});
  iowa.close("test");
  REQUIRE(rig.serve_until([&] { return rig.recorder.lost.count("iowa") == 1; }));
  CHECK(rig.recorder.lost["iowa"] == kClosedByPeer);
}

TEST_CASE("who does not speak the protocol is dropped and the others do not notice") {
  const std::string line =
      GENERATE(as<std::string>(), "", "GET / HTTP/1.1", "{}", R"({"type":"bye","reason":"x"})",
               R"({"type":"hello","protocol":1})", "[1,2,3]");
  INFO("first line: " << line);
  Rig rig;
  LineSocket good = rig.member("iowa"), bad = rig.connect();
  bad.send(line);
  REQUIRE(rig.serve_until([&] { return bad.closed() && rig.recorder.connections == 1; }, {&bad}, {&good}));
  CHECK(rig.recorder.members == std::set<std::string>{"iowa"});
  CHECK(good.open());
}

TEST_CASE("a member that sends a malformed message is lost") {
  const std::string line = GENERATE(as<std::string>(), "nonsense", R"({"type":"lease_request","blocks":-1})",
                                    R"({"type":"hello"})");
  Rig rig;
  LineSocket iowa = rig.member("iowa");
  REQUIRE(rig.serve_until([&] { return rig.recorder.connections == 1; }, {&iowa}));
  iowa.send(line);
  REQUIRE(rig.serve_until([&] { return rig.recorder.lost.count("iowa") == 1; }, {&iowa}));
  CHECK(rig.recorder.lost["iowa"] == "it sent a malformed message");
}

TEST_CASE("a second hello over one connection is malformed") {
  Rig rig;
  LineSocket iowa = rig.member("iowa");
  Hello again;
  again.member = "texas";
  again.role = "site";
  iowa.send(encode(again));
  REQUIRE(rig.serve_until([&] { return rig.recorder.lost.count("iowa") == 1; }, {&iowa}));
  CHECK(rig.recorder.connections == 1);
}

TEST_CASE("a line without end is cut off, not stored") {
  Rig rig;
  LineSocket flood = rig.connect();
  REQUIRE(rig.serve_until([&] { return !flood.connecting(); }, {&flood}));
  flood.send(std::string(2 * kMaxLine, 'x'));
  REQUIRE(rig.serve_until([&] { return flood.closed(); }, {&flood}));
  CHECK(rig.recorder.connections == 0);
}

TEST_CASE("random bytes never end the hub") {
  const auto seed = static_cast<unsigned>(GENERATE(range(0, 10)));
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Rig rig;
  LineSocket iowa = rig.member("iowa"), noise = rig.connect();
  std::string bytes(random() % 5000 + 1, ' ');
  for (char& byte : bytes) byte = static_cast<char>(random());
  noise.send(bytes);
  REQUIRE(
      rig.serve_until([&] { return noise.closed() && rig.recorder.connections == 1; }, {&noise}, {&iowa}));
  CHECK(iowa.open());
}

TEST_CASE("silent connections are lost, members and strangers alike") {
  Rig rig;
  LineSocket stranger = rig.connect(), silent = rig.member("iowa"), alive = rig.member("texas");
  REQUIRE(
      rig.serve_until([&] { return stranger.closed() && silent.closed(); }, {&stranger, &silent}, {&alive}));
  CHECK(rig.recorder.lost.count("iowa") == 1);
  CHECK(rig.recorder.lost["iowa"].rfind("silent for ", 0) == 0);
  CHECK(rig.recorder.members == std::set<std::string>{"texas"});
}

TEST_CASE("two live members of one name: the second is refused") {
  Rig rig;
  LineSocket first = rig.member("iowa", "10.0.0.1:1");
  REQUIRE(rig.serve_until([&] { return rig.recorder.connections == 1; }, {&first}));
  LineSocket second = rig.member("iowa", "10.0.0.2:1");
  std::optional<Message> answer;
  REQUIRE(rig.serve_until(
      [&] {
        if (!answer) answer = next_message(second);
        return second.closed();
      },
      {&second}, {&first}));
  REQUIRE(answer);
  CHECK(std::get<Refuse>(*answer).exit_code == 64);
  CHECK(first.open());
  CHECK(rig.recorder.lost.empty());
}

TEST_CASE("a member that comes back takes over from its dead connection") {
  Rig rig;
  LineSocket first = rig.member("iowa", "10.0.0.1:1");
  REQUIRE(rig.serve_until([&] { return rig.recorder.connections == 1; }, {&first}));
  // The same courier, or another one while the old connection only seems to live.
  const std::string probe = GENERATE("10.0.0.1:1", "10.0.0.2:1");
  LineSocket second = rig.member("iowa", probe);
  second.send(encode(LeaseRequest{9}));  // sent before the hub has decided: not lost
  REQUIRE(rig.serve_until([&] { return rig.recorder.connections == 2; }, {&second}));
  REQUIRE(rig.serve_until([&] { return rig.recorder.messages["iowa"].size() == 1; }, {&second}));
  CHECK(rig.recorder.lost.count("iowa") == 1);
  CHECK(second.open());
}

TEST_CASE("after a bye the name is free while the old connection lingers") {
  Rig rig;
  LineSocket first = rig.member("iowa", "10.0.0.1:1");
  first.send(encode(Bye{"window closed"}));
  REQUIRE(rig.serve_until([&] { return rig.recorder.messages["iowa"].size() == 1; }, {&first}));
  LineSocket second = rig.member("iowa", "10.0.0.2:1");
  REQUIRE(rig.serve_until([&] { return rig.recorder.connections == 2; }, {&second}, {&first}));
  CHECK(rig.recorder.lost.empty());
}

TEST_CASE("observers get the status and are no members") {
  Rig rig;
  Observer observer({"127.0.0.1", rig.server.port()}, "status", nullptr);
  REQUIRE(rig.serve_until([&] {
    observer.read();
    return !observer.status().is_null();
  }));
  CHECK(observer.status() == nlohmann::json{{"version", 7}});
  CHECK(rig.recorder.connections == 0);
}

TEST_CASE("an observer that breaks the rules leaves one line in the log, one that leaves none") {
  const std::string line = GENERATE(as<std::string>(), "nonsense", R"({"type":"halt"})", "long", "leaves");
  INFO(line);
  CapturedLog log;
  Recorder recorder;
  HubServer server({"127.0.0.1", 0}, kLostAfter_s, recorder);
  // Twice: the second comes within the time in which such lines are counted only.
  for (int i = 0; i < 2; ++i) {
    LineSocket observer = LineSocket::connect({"127.0.0.1", server.port()}, 5);
    Hello hello;
    hello.member = "status";
    hello.role = "observer";
    observer.send(encode(hello));
    bool known = false;
    for (const double end_s = monotonic_s() + kPatience_s; !known && monotonic_s() < end_s;) {
      observer.on_ready();
      known = next_message(observer).has_value();  // its first status
      server.run_once(0.01);
    }
    REQUIRE(known);
    if (line == "leaves")
      observer.close("test");
    else
      observer.send(line == "long" ? std::string(kMaxLine + 1, 'x') : line);
    for (const double end_s = monotonic_s() + kPatience_s; observer.open() && monotonic_s() < end_s;) {
      observer.on_ready();
      server.run_once(0.01);
    }
    for (int turn = 0; turn < 5; ++turn) server.run_once(0.01);
    REQUIRE(observer.closed());
  }
  const std::string text = log.text();
  INFO(text);
  if (line == "leaves") {
    CHECK(text.empty());
  } else {
    const auto first = text.find("an observer at 127.0.0.1 is disconnected: ");
    REQUIRE(first != std::string::npos);
    CHECK(text.find("is disconnected", first + 40) == std::string::npos);
  }
}

TEST_CASE("the hub's server names an address it cannot use") {
  Rig rig;
  Recorder other;
  const Endpoint taken{"127.0.0.1", rig.server.port()};
  CHECK_THROWS_WITH(HubServer(taken, 1, other),
                    "cannot listen on 127.0.0.1:" + std::to_string(taken.port) + ": Address already in use");
}
