#include "comm/protocol.hpp"

#include <fmt/format.h>

#include <random>
#include <set>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

const CommittedModel kModel{7, 350, "0123456789abcdef0123456789abcdef"};

// One message of every type, no field at its default.
std::vector<Message> examples() {
  Hello hello;
  hello.member = "california";
  hello.role = "site";
  hello.run = "8f3a";
  hello.data = "77aa";
  hello.probe = "10.0.0.1:7001";
  hello.open = true;
  hello.model = kModel;
  hello.consumed = {{0, 3}, {5, 9}};
  hello.pending = {{0, 3}};
  hello.leased = {{9, 40}};
  hello.doubt_epoch = 3;
  hello.doubt_round = 12;
  const nlohmann::json progress = {{"state", "train"}, {"loss", 3.25}};
  return {hello,
          WindowChange{true, 1768150800.5},
          LeaseRequest{50},
          Ready{12, 7, 65536, {{9, 17}}, {false, 2.5, {1.5, 2}, {0.25, -1}}, {{"total_mj", 7}}},
          Formed{3, 0.25},
          Synced{3, kModel},
          Done{3, 12, kModel.hash, 1.5, true},
          Fail{3, "no progress for 10 s", "texas"},
          Stopped{3},
          MemberHeartbeat{{{"texas", true}, {"vault", false}}, progress, true},
          Bye{"window closed"},
          Welcome{{1768150800, 1800000000.25, 720}, kModel, true, true},
          Refuse{65, "name is taken"},
          Lease{{{40, 60}}},
          Epoch{3, "123.0;tcp://127.0.0.1:4567", {"california", "vault"}, 1, 4, 3},
          Sync{3, kModel, 1, {0, 2}},
          Finish{12},
          Go{3, 12, "nesterov", 1, {0.25, 0.75, 0}, true, {8, 400, ""}},
          Commit{3, 12, kModel},
          Outcome{3, 12, true},
          Stop{3},
          Abort{3, "member texas lost"},
          Complete{kModel},
          HubHeartbeat{{1, 2, 3}, {{"texas", "10.0.0.2:7001"}}},
          Status{{{"sites", nlohmann::json::array({"a", "b"})}}},
          Prepared{3, 12},
          Exchanged{3, 12, 0.5},
          Received{3, kModel},
          HubLost{"no heartbeat for 5 s"},
          HubConnected{}};
}

std::string error_of(std::string_view line) {
  try {
    decode(line);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_data);
    return error.what();
  }
  return "accepted";
}

std::string encode_error_of(const Message& message) {
  try {
    encode(message);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("every message survives the wire") {
  std::set<std::size_t> seen;
  for (const Message& message : examples()) {
    const std::string line = encode(message);
    INFO(line);
    CHECK(line.find('\n') == std::string::npos);
    const Message back = decode(line);
    CHECK(back.index() == message.index());
    CHECK(encode(back) == line);
    seen.insert(message.index());
  }
  CHECK(seen.size() == std::variant_size_v<Message>);
}

TEST_CASE("fields arrive with their values") {
  const auto go = std::get<Go>(decode(encode(Go{3, 12, "nesterov", 1, {0.1, 0.9}, true, {8, 400, ""}})));
  CHECK(go.epoch == 3);
  CHECK(go.round == 12);
  CHECK(go.merge == "nesterov");
  CHECK(go.root == 1);
  CHECK(go.weights == std::vector<double>{0.1, 0.9});
  CHECK(go.reset_velocity);
  CHECK(go.next.version == 8);
  CHECK(go.next.blocks == 400);
  const auto hello = std::get<Hello>(decode(encode(examples()[0])));
  CHECK(hello.consumed == BlockRanges{{0, 3}, {5, 9}});
  CHECK(hello.model.hash == kModel.hash);
}

TEST_CASE("the decoder names what is wrong") {
  CHECK(error_of("") == "protocol: line: is not JSON");
  CHECK(error_of("{\"type\":\"stop\"") == "protocol: line: is not JSON");
  CHECK(error_of("[1,2]") == "protocol: line: is not a JSON object");
  CHECK(error_of("{}") == "protocol: type: is missing");
  CHECK(error_of(R"({"type":7})") == "protocol: type: expected a string");
  CHECK(error_of(R"({"type":"halt"})") == "protocol: halt: is not a known type of message");
  CHECK(error_of(R"({"type":"stop"})") == "protocol: stop.epoch: is missing");
  CHECK(error_of(R"({"type":"stop","epoch":1,"why":"x"})") == "protocol: stop.why: is not a known field");
  CHECK(error_of(R"({"type":"stop","epoch":1,"epoch":2})") == "protocol: epoch: appears twice");
  CHECK(error_of(R"({"type":"stop","epoch":"1"})") == "protocol: stop.epoch: expected a whole number");
  CHECK(error_of(R"({"type":"stop","epoch":1.0})") == "protocol: stop.epoch: expected a whole number");
  CHECK(error_of(R"({"type":"stop","epoch":-1})") ==
        "protocol: stop.epoch: expected a whole number from 0 to 9223372036854775807");
  CHECK(error_of(R"({"type":"stop","epoch":9223372036854775808})") ==
        "protocol: stop.epoch: expected a whole number from 0 to 9223372036854775807");
  CHECK(error_of(R"({"type":"refuse","exit_code":4294967296,"reason":""})") ==
        "protocol: refuse.exit_code: expected a whole number from 0 to 2147483647");
  CHECK(error_of(R"({"type":"formed","epoch":1,"seconds":1e999})") == "protocol: line: is not JSON");
  CHECK(error_of(R"({"type":"formed","epoch":1,"seconds":null})") ==
        "protocol: formed.seconds: expected a number");
  CHECK(error_of(R"({"type":"bye","reason":"a\nb"})") == "protocol: bye.reason: contains control characters");
  CHECK(error_of(R"({"type":"lease","blocks":[[3,3]]})") ==
        "protocol: lease.blocks: range [3, 3) is empty, negative or out of order");
  CHECK(error_of(R"({"type":"lease","blocks":[[0,5],[4,6]]})") ==
        "protocol: lease.blocks: range [4, 6) is empty, negative or out of order");
  CHECK(error_of(R"({"type":"lease","blocks":[[0,5,6]]})") ==
        "protocol: lease.blocks: expected pairs of whole numbers");
  CHECK(error_of(R"({"type":"complete","model":{"version":1,"blocks":2,"hash":"xyz"}})") ==
        "protocol: complete.model.hash: expected 32 lower-case hex digits or nothing");
  CHECK(error_of(R"({"type":"complete","model":{"version":1,"blocks":2}})") ==
        "protocol: complete.model.hash: is missing");
  CHECK(
      error_of(
          R"({"type":"epoch","epoch":1,"name_server":"u","members":["a","a"],"index":0,"streams":1,"stream":0})") ==
      "protocol: epoch.members: a name appears twice");
  CHECK(
      error_of(
          R"({"type":"epoch","epoch":1,"name_server":"u","members":["a","b"],"index":2,"streams":1,"stream":0})") ==
      "protocol: epoch.index: rank 2 of 2 members");
  CHECK(
      error_of(
          R"({"type":"epoch","epoch":1,"name_server":"u","members":["../a"],"index":0,"streams":1,"stream":0})") ==
      "protocol: epoch.members: expected 1 to 64 of the characters a-z A-Z 0-9 _ . -");
}

TEST_CASE("another version's hello is read as far as a refusal needs it") {
  // What version 2 sent: without `pending`. And a version to come, with a field that nobody knows yet.
  const std::string old =
      R"({"type":"hello","protocol":2,"member":"texas","role":"site","run":"r","data":"d","probe":"","open":true,)"
      R"("model":{"version":0,"blocks":0,"hash":""},"consumed":[],"leased":[],"doubt_epoch":0,"doubt_round":0})";
  const std::string coming = R"({"type":"hello","protocol":9,"member":"texas","role":"site","more":[1]})";
  for (const std::string& line : {old, coming}) {
    const Hello hello = std::get<Hello>(decode(line));
    CHECK(hello.protocol == (line == old ? 2 : 9));
    CHECK(hello.member == "texas");
    CHECK(hello.role == "site");
  }
  CHECK_THROWS_WITH(decode(R"({"type":"hello","protocol":2,"member":"../texas","role":"site"})"),
                    "protocol: hello.member: expected 1 to 64 of the characters a-z A-Z 0-9 _ . -");
  CHECK_THROWS_WITH(decode(R"({"type":"hello","protocol":2})"), "protocol: hello.member: expected a string");
}

TEST_CASE("the decoder bounds what it accepts") {
  CHECK(error_of(std::string(kMaxLine + 1, ' ')) == "protocol: line: has 1048577 bytes, more than 1048576");
  const std::string deep = R"({"type":"status","snapshot":)" + std::string(100'000, '[');
  CHECK(error_of(deep) == "protocol: line: is nested deeper than 32 levels");
  std::string many = R"({"type":"lease","blocks":[)";
  for (std::size_t i = 0; i <= kMaxRanges; ++i) many += (i ? "," : "") + std::string("[0,1]");
  CHECK(error_of(many + "]}") ==
        fmt::format("protocol: lease.blocks: has {} entries, more than {}", kMaxRanges + 1, kMaxRanges));
  CHECK(error_of(R"({"type":"bye","reason":")" + std::string(5000, 'a') + "\"}") ==
        "protocol: bye.reason: is longer than 4096 bytes");
  CHECK(error_of(R"({"type":"stop","epoch":1,")" + std::string(500, 'k') + "\":1}") ==
        "protocol: stop." + std::string(115, 'k') + ": is not a known field");
}

TEST_CASE("the largest lists fit into a line") {
  Hello hello = std::get<Hello>(examples()[0]);
  hello.consumed.clear();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(kMaxRanges); ++i)
    hello.consumed.emplace_back(9'000'000'000'000'000'000 + 2 * i, 9'000'000'000'000'000'000 + 2 * i + 1);
  hello.pending = hello.leased = hello.consumed;
  const Hello arrived = std::get<Hello>(decode(encode(hello)));
  CHECK(arrived.leased == hello.leased);
  CHECK(arrived.pending == hello.pending);
}

TEST_CASE("the encoder refuses what the decoder would") {
  CHECK(encode_error_of(Bye{"a\nb"}) == "protocol: bye.reason: contains control characters");
  CHECK(encode_error_of(Formed{1, std::numeric_limits<double>::quiet_NaN()}) ==
        "protocol: formed.seconds: is not a finite number");
  CHECK(encode_error_of(Stop{-1}) == "protocol: stop.epoch: -1 is negative");
  CHECK(encode_error_of(Go{1, 1, "sum", 0, {1}, false, {}}) ==
        "protocol: go.merge: expected one of adopt, nesterov, average");
  CHECK(encode_error_of(Go{1, 1, "average", 0, {0.5, 0.4}, false, {}}) ==
        "protocol: go.weights: sum is 0.9, not 1");
  CHECK(encode_error_of(Go{1, 1, "average", 2, {0.5, 0.5}, false, {}}) ==
        "protocol: go.root: rank 2 of 2 members");
  CHECK(encode_error_of(Epoch{1, "u", {"a"}, 0, 0}) == "protocol: epoch.streams: 0 is not from 1 to 16");
  CHECK(encode_error_of(Epoch{1, "u", {"a"}, 0, 17}) == "protocol: epoch.streams: 17 is not from 1 to 16");
  CHECK(encode_error_of(Epoch{1, "u", {"a"}, 0, 2, 2}) == "protocol: epoch.stream: 2 of 2 streams");
  CHECK(encode_error_of(Sync{1, kModel, 1, {0, 1}}) == "protocol: sync.targets: the root is among them");
}

TEST_CASE("mutated lines are refused or are messages") {
  const unsigned seed = 20260111;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::vector<std::string> lines;
  for (const Message& message : examples()) lines.push_back(encode(message));
  const std::vector<std::string> tokens = {
      "{",       "}",    "[",    "]",       "null", "-1", "1e400", "\"", ",", ":", "18446744073709551616",
      "\\u0000", "\xff", "true", "\"type\""};
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  int accepted = 0, refused = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string line = lines[below(lines.size())];
    for (std::size_t edit = 0, edits = 1 + below(4); edit < edits; ++edit) {
      const std::size_t at = below(line.size() + 1);
      switch (below(5)) {
        case 0:
          line.insert(at, tokens[below(tokens.size())]);
          break;
        case 1:
          line.erase(at, 1 + below(8));
          break;
        case 2:
          if (at < line.size()) line[at] = static_cast<char>(below(256));
          break;
        case 3:
          line.resize(at);
          break;
        default: {
          const std::string& other = lines[below(lines.size())];
          line.replace(at, below(16), other.substr(below(other.size()), below(40)));
        }
      }
    }
    try {
      const std::string again = encode(decode(line));
      if (encode(decode(again)) != again) FAIL("not stable: " << line);
      ++accepted;
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_data) FAIL(error.what() << " for " << line);
      ++refused;
    }
  }
  CHECK(accepted > 100);
  CHECK(refused > 10'000);
}
