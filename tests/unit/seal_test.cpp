// Authentication: what the holder of the key says gets through, and nothing else.
#include "comm/seal.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <random>

#include "comm/line_socket.hpp"
#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

const std::string kSecret = "0123456789abcdef0123456789abcdef";

std::filesystem::path key_file(const TemporaryFolder& folder, const std::string& text, mode_t mode = 0600) {
  const auto file = folder.path() / "key";
  std::ofstream(file) << text;
  chmod(file.c_str(), mode);
  return file;
}

SharedKey key_of(const std::string& text) {
  const TemporaryFolder folder;
  return std::make_shared<const Key>(key_file(folder, text));
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Two sides that have greeted each other and shown their proofs.
struct Pair {
  explicit Pair(const std::string& hub_key = kSecret, const std::string& member_key = kSecret)
      : hub(key_of(hub_key), Seal::Side::hub), member(key_of(member_key), Seal::Side::member) {
    hub.open(member.greeting());
    member.open(hub.greeting());
    hub_proof = hub.close("");
    member_proof = member.close("");
  }
  void prove() {
    REQUIRE_FALSE(hub.open(member_proof));
    REQUIRE_FALSE(member.open(hub_proof));
  }
  Seal hub, member;
  std::string hub_proof, member_proof;
};

constexpr const char* kChanged = "a line was changed, repeated or lost on the way";
constexpr const char* kOtherKey = "its key is not the same as ours (federation.key-file)";

// A LineSocket and a bare descriptor as its other side.
struct Wire {
  explicit Wire(Seal::Side side, const SharedKey& key) {
    auto [a, b] = socket_pair();
    socket = LineSocket(std::move(a));
    socket.authenticate(key, side);
    bare = LineSocket(std::move(b));
  }
  LineSocket socket, bare;
};

}  // namespace

TEST_CASE("a key file must be private and long enough") {
  const TemporaryFolder folder;
  CHECK(Key(key_file(folder, kSecret + "\n")).bytes() == kSecret);
  CHECK(Key(key_file(folder, kSecret, 0400)).bytes() == kSecret);
  const auto mode = static_cast<mode_t>(GENERATE(0644, 0640, 0604, 0660, 0602, 0700));
  const auto file = key_file(folder, kSecret, mode);
  CHECK(error_of([&] { Key key(file); }) ==
        fmt::format(
            "federation.key-file {}: mode {:04o} lets others use the key: chmod 600 it, and change the key",
            file.string(), mode));
}

TEST_CASE("what is no key file is refused") {
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { Key key(folder.path() / "none"); }), "No such file"));
  CHECK(contains(error_of([&] { Key key(folder.path()); }), "not a regular file"));
  CHECK(
      contains(error_of([&] { Key key(key_file(folder, "short\n")); }), "has 5 bytes, a key has 32 to 4096"));
  CHECK(
      contains(error_of([&] { Key key(key_file(folder, std::string(5000, 'x'))); }), "a key has 32 to 4096"));
  const auto fifo = folder.path() / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(contains(error_of([&] { Key key(fifo); }), "not a regular file"));
  CHECK(read_key("") == nullptr);
}

TEST_CASE("sealed lines arrive in order, in both directions") {
  Pair pair;
  CHECK_FALSE(pair.hub.authenticated());
  pair.prove();
  CHECK(pair.hub.authenticated());
  for (const std::string line : {"first", "", "{\"type\":\"x\"}", "first"}) {
    CHECK(pair.hub.open(pair.member.close(line)) == line);
    CHECK(pair.member.open(pair.hub.close(line)) == line);
  }
}

TEST_CASE("another key, a replay, a reflection, a change: all are refused") {
  SECTION("another key") {
    Pair pair(kSecret, kSecret + "x");
    CHECK(error_of([&] { pair.hub.open(pair.member_proof); }) == kOtherKey);
    CHECK(error_of([&] { pair.member.open(pair.hub_proof); }) == kOtherKey);
  }
  SECTION("a recorded connection played again") {
    Pair recorded;
    const std::string said = recorded.member.close("bye");
    Seal hub(key_of(kSecret), Seal::Side::hub);
    hub.open(recorded.member.greeting());
    CHECK(error_of([&] { hub.open(recorded.member_proof); }) == kOtherKey);
  }
  SECTION("the hub's own lines sent back") {
    Pair pair;
    CHECK(error_of([&] { pair.hub.open(pair.hub_proof); }) == kOtherKey);
    Seal hub(key_of(kSecret), Seal::Side::hub);
    CHECK(error_of([&] { hub.open(hub.greeting()); }) == "it sends this side's own challenge back");
  }
  SECTION("a line twice, or out of order") {
    Pair pair;
    pair.prove();
    const std::string first = pair.member.close("a"), second = pair.member.close("b");
    CHECK(error_of([&] { pair.hub.open(second); }) == kChanged);
    CHECK(pair.hub.open(first) == "a");
    CHECK(error_of([&] { pair.hub.open(first); }) == kChanged);
  }
  SECTION("no authentication at all") {
    Seal hub(key_of(kSecret), Seal::Side::hub);
    CHECK(error_of([&] { hub.open("{\"type\":\"hello\"}"); }) ==
          "it does not authenticate itself: federation.key-file must be set on both sides");
  }
  SECTION("a malformed challenge") {
    Seal hub(key_of(kSecret), Seal::Side::hub);
    const std::string greeting = Seal(key_of(kSecret), Seal::Side::member).greeting();
    for (const std::string& line :
         {greeting + "0", greeting.substr(0, greeting.size() - 1), greeting.substr(0, 20),
          std::string("spillway-auth 2 ") + greeting.substr(16),
          greeting.substr(0, greeting.size() - 1) + "G"})
      CHECK(error_of([&] { hub.open(line); }) == "its challenge is malformed");
  }
}

TEST_CASE("no mutation of a sealed line is accepted") {
  const unsigned seed = 20261123;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Pair pair;
  pair.prove();
  for (int i = 0; i < 3000; ++i) {
    const std::string said = "{\"type\":\"lease_request\",\"blocks\":" + std::to_string(i) + "}";
    const std::string sealed = pair.member.close(said);
    std::string mutated = sealed;
    const auto at = random() % mutated.size();
    if (random() % 3 == 0)
      mutated.erase(at, 1 + random() % 70);
    else if (random() % 2 == 0)
      mutated.insert(at, 1, static_cast<char>(random()));
    else
      mutated[at] = static_cast<char>(mutated[at] ^ (1 + random() % 255));
    if (mutated != sealed) REQUIRE(error_of([&] { pair.hub.open(mutated); }) == kChanged);
    REQUIRE(pair.hub.open(sealed) == said);  // a refused line has changed nothing
  }
}

TEST_CASE("sockets with one key talk; what was said before the handshake is not lost") {
  auto [a, b] = socket_pair();
  LineSocket hub(std::move(a)), member(std::move(b));
  const SharedKey key = key_of(kSecret);
  member.authenticate(key, Seal::Side::member);
  hub.authenticate(key, Seal::Side::hub);
  const std::string large(500'000, 'x');
  member.send("hello");
  member.send(large);
  hub.send("welcome");
  std::vector<std::string> at_hub, at_member;
  for (int i = 0; i < 1000 && (at_hub.size() < 2 || at_member.empty()); ++i) {
    hub.on_ready();
    while (const auto line = hub.next_line()) at_hub.push_back(*line);
    member.on_ready();
    while (const auto line = member.next_line()) at_member.push_back(*line);
  }
  CHECK(at_hub == std::vector<std::string>{"hello", large});
  CHECK(at_member == std::vector<std::string>{"welcome"});
}

TEST_CASE("a socket with a key closes for who has none, and says why") {
  const SharedKey key = key_of(kSecret);
  Wire wire(Seal::Side::hub, key);
  SECTION("a line without code") {
    wire.bare.send("{\"type\":\"hello\"}");
    wire.socket.on_ready();
    CHECK_FALSE(wire.socket.next_line());
    CHECK(wire.socket.reason() ==
          "authentication: it does not authenticate itself: federation.key-file must be set on both sides");
  }
  SECTION("the other side has no key") {
    wire.bare.on_ready();
    CHECK_FALSE(wire.bare.next_line());
    CHECK(wire.bare.reason() == "it asks for a key: set federation.key-file");
  }
  SECTION("a stranger's long line") {
    wire.bare.send(std::string(1000, 'x'));
    wire.socket.on_ready();
    CHECK(wire.socket.reason() == "a line longer than 128 bytes");
  }
  CHECK((wire.socket.closed() || wire.bare.closed()));
}
