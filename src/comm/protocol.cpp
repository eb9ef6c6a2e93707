#include "comm/protocol.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <set>
#include <type_traits>

#include "core/error.hpp"

namespace spillway {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxText = 4096;
constexpr std::size_t kMaxShown = 120;
constexpr int kMaxDepth = 32;  // printing a document recurses once per level
constexpr double kWeightSlack = 1e-6;

[[noreturn]] void refuse(const std::string& field, const std::string& what) {
  // The name may come from the other side: keep the log line short and printable.
  std::string shown = field.substr(0, kMaxShown);
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  fail(ExitCode::bad_data, "protocol: {}: {}", shown, what);
}

// --- What a message consists of: one description drives encode() and decode(). ---
//
// Schema<T>::type is the value of "type" on the line (absent in nested objects), Schema<T>::fields calls
// visit(name, member) for each field and returns nothing.

template <class T>
struct Schema;

#define SPILLWAY_NESTED(T, ...)                \
  template <>                                  \
  struct Schema<T> {                           \
    static void fields(auto& m, auto& visit) { \
      static_cast<void>(m);                    \
      static_cast<void>(visit);                \
      __VA_ARGS__                              \
    }                                          \
  }
#define SPILLWAY_MESSAGE(T, name, ...)         \
  template <>                                  \
  struct Schema<T> {                           \
    static constexpr const char* type = name;  \
    static void fields(auto& m, auto& visit) { \
      static_cast<void>(m);                    \
      static_cast<void>(visit);                \
      __VA_ARGS__                              \
    }                                          \
  }
#define FIELD(name) visit(#name, m.name);

SPILLWAY_NESTED(CommittedModel, FIELD(version) FIELD(blocks) FIELD(hash));
SPILLWAY_NESTED(DeltaReport, FIELD(finite) FIELD(norm) FIELD(tensor_norms) FIELD(sketch));
SPILLWAY_NESTED(ClockSpec, FIELD(start_unix_s) FIELD(origin_unix_s) FIELD(speed));

SPILLWAY_MESSAGE(Hello, "hello",
                 FIELD(protocol) FIELD(member) FIELD(role) FIELD(run) FIELD(data) FIELD(probe) FIELD(open)
                     FIELD(model) FIELD(consumed) FIELD(pending) FIELD(leased) FIELD(doubt_epoch)
                         FIELD(doubt_round));
SPILLWAY_MESSAGE(WindowChange, "window", FIELD(open) FIELD(closes_unix_s));
SPILLWAY_MESSAGE(LeaseRequest, "lease_request", FIELD(blocks));
SPILLWAY_MESSAGE(Ready, "ready",
                 FIELD(round) FIELD(version) FIELD(tokens) FIELD(consumed) FIELD(delta) FIELD(energy));
SPILLWAY_MESSAGE(Formed, "formed", FIELD(epoch) FIELD(seconds));
SPILLWAY_MESSAGE(Synced, "synced", FIELD(epoch) FIELD(model));
SPILLWAY_MESSAGE(Done, "done", FIELD(epoch) FIELD(round) FIELD(hash) FIELD(seconds) FIELD(trained_on));
SPILLWAY_MESSAGE(Fail, "fail", FIELD(epoch) FIELD(reason) FIELD(peer));
SPILLWAY_MESSAGE(Stopped, "stopped", FIELD(epoch));
SPILLWAY_MESSAGE(MemberHeartbeat, "member_heartbeat", FIELD(reach) FIELD(progress) FIELD(silent));
SPILLWAY_MESSAGE(Bye, "bye", FIELD(reason));
SPILLWAY_MESSAGE(Welcome, "welcome", FIELD(clock) FIELD(committed) FIELD(complete) FIELD(keep_local));
SPILLWAY_MESSAGE(Refuse, "refuse", FIELD(exit_code) FIELD(reason));
SPILLWAY_MESSAGE(Lease, "lease", FIELD(blocks));
SPILLWAY_MESSAGE(Epoch, "epoch",
                 FIELD(epoch) FIELD(name_server) FIELD(members) FIELD(index) FIELD(streams) FIELD(stream));
SPILLWAY_MESSAGE(Sync, "sync", FIELD(epoch) FIELD(model) FIELD(root) FIELD(targets));
SPILLWAY_MESSAGE(Finish, "finish", FIELD(round));
SPILLWAY_MESSAGE(Go, "go",
                 FIELD(epoch) FIELD(round) FIELD(merge) FIELD(root) FIELD(weights) FIELD(reset_velocity)
                     FIELD(next) FIELD(wire));
SPILLWAY_MESSAGE(Commit, "commit", FIELD(epoch) FIELD(round) FIELD(model));
SPILLWAY_MESSAGE(Outcome, "outcome", FIELD(epoch) FIELD(round) FIELD(committed));
SPILLWAY_MESSAGE(Stop, "stop", FIELD(epoch));
SPILLWAY_MESSAGE(Abort, "abort", FIELD(epoch) FIELD(reason));
SPILLWAY_MESSAGE(Complete, "complete", FIELD(model));
SPILLWAY_MESSAGE(HubHeartbeat, "hub_heartbeat", FIELD(clock) FIELD(peers));
SPILLWAY_MESSAGE(Status, "status", FIELD(snapshot));
SPILLWAY_MESSAGE(Prepared, "prepared", FIELD(epoch) FIELD(round));
SPILLWAY_MESSAGE(Exchanged, "exchanged", FIELD(epoch) FIELD(round) FIELD(seconds));
SPILLWAY_MESSAGE(Received, "received", FIELD(epoch) FIELD(model));
SPILLWAY_MESSAGE(HubLost, "hub_lost", FIELD(reason));
SPILLWAY_MESSAGE(HubConnected, "hub_connected", );

#undef FIELD
#undef SPILLWAY_MESSAGE
#undef SPILLWAY_NESTED

// --- Rules about values, applied by sender and receiver alike: a sender's bug shows at the sender. ---

void check_name(const std::string& field, const std::string& name) {
  const bool good = !name.empty() && name.size() <= kMaxName && name[0] != '-' && name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                             c == '_' || c == '-' || c == '.';
                    });
  if (!good) refuse(field, fmt::format("expected 1 to {} of the characters a-z A-Z 0-9 _ . -", kMaxName));
}

void check_count(const std::string& field, std::size_t count, std::size_t limit) {
  if (count > limit) refuse(field, fmt::format("has {} entries, more than {}", count, limit));
}

void check_ranges(const std::string& field, const BlockRanges& ranges) {
  check_count(field, ranges.size(), kMaxRanges);
  std::int64_t end = 0;
  for (const auto& [first, last] : ranges) {
    if (first < end || last <= first)
      refuse(field, fmt::format("range [{}, {}) is empty, negative or out of order", first, last));
    end = last;
  }
}

void check_one_of(const std::string& field, const std::string& value,
                  std::initializer_list<const char*> known) {
  if (std::find(known.begin(), known.end(), value) == known.end())
    refuse(field, fmt::format("expected one of {}", fmt::join(known, ", ")));
}

void check_rank(const std::string& field, int rank, std::size_t size) {
  if (rank >= static_cast<int>(size)) refuse(field, fmt::format("rank {} of {} members", rank, size));
}

template <class T>
void check_rules(const std::string&, const T&) {}

void check_rules(const std::string& where, const CommittedModel& m) {
  const bool hex = std::all_of(m.hash.begin(), m.hash.end(),
                               [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!m.hash.empty() && (m.hash.size() != 32 || !hex))
    refuse(where + ".hash", "expected 32 lower-case hex digits or nothing");
}
void check_rules(const std::string& where, const ClockSpec& m) {
  if (m.speed <= 0) refuse(where + ".speed", "expected a number above 0");
}
void check_rules(const std::string& where, const Hello& m) {
  check_name(where + ".member", m.member);
  check_one_of(where + ".role", m.role, {"site", "vault", "observer"});
}
void check_rules(const std::string& where, const Fail& m) {
  if (!m.peer.empty()) check_name(where + ".peer", m.peer);
}
void check_rules(const std::string& where, const Ready& m) {
  if (!m.energy.is_object() && !m.energy.is_null()) refuse(where + ".energy", "expected an object or null");
}
void check_rules(const std::string& where, const MemberHeartbeat& m) {
  for (const auto& [name, reached] : m.reach) check_name(where + ".reach", name);
  if (!m.progress.is_object() && !m.progress.is_null())
    refuse(where + ".progress", "expected an object or null");
}
void check_rules(const std::string& where, const HubHeartbeat& m) {
  for (const auto& [name, address] : m.peers) check_name(where + ".peers", name);
}
void check_rules(const std::string& where, const Epoch& m) {
  for (const auto& name : m.members) check_name(where + ".members", name);
  if (std::set(m.members.begin(), m.members.end()).size() != m.members.size())
    refuse(where + ".members", "a name appears twice");
  check_rank(where + ".index", m.index, m.members.size());
  if (m.streams < 1 || m.streams > kMaxStreams)
    refuse(where + ".streams", fmt::format("{} is not from 1 to {}", m.streams, kMaxStreams));
  if (m.stream >= m.streams) refuse(where + ".stream", fmt::format("{} of {} streams", m.stream, m.streams));
}
void check_rules(const std::string& where, const Sync& m) {
  check_rank(where + ".root", m.root, kMaxMembers);
  for (const int target : m.targets) {
    check_rank(where + ".targets", target, kMaxMembers);
    if (target == m.root) refuse(where + ".targets", "the root is among them");
  }
  if (std::set(m.targets.begin(), m.targets.end()).size() != m.targets.size())
    refuse(where + ".targets", "a rank appears twice");
}
void check_rules(const std::string& where, const Go& m) {
  check_one_of(where + ".merge", m.merge, {"adopt", "nesterov", "average"});
  check_one_of(where + ".wire", m.wire, {"fp32", "bf16", "int8"});
  check_count(where + ".weights", m.weights.size(), kMaxMembers);
  check_rank(where + ".root", m.root, m.weights.size());
  double sum = 0;
  for (const double weight : m.weights) {
    if (weight < 0 || weight > 1) refuse(where + ".weights", "expected numbers from 0 to 1");
    sum += weight;
  }
  if (std::abs(sum - 1) > kWeightSlack) refuse(where + ".weights", fmt::format("sum is {}, not 1", sum));
}

// --- JSON of one value ---

// Limits on a value of each type; throws naming the field.
void check_value(const std::string&, bool) {}
void check_value(const std::string& field, std::integral auto value) {
  if (value < 0) refuse(field, fmt::format("{} is negative", value));
}
void check_value(const std::string& field, double value) {
  if (!std::isfinite(value)) refuse(field, "is not a finite number");
}
void check_value(const std::string& field, const std::string& value) {
  if (value.size() > kMaxText) refuse(field, fmt::format("is longer than {} bytes", kMaxText));
  if (std::any_of(value.begin(), value.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }))
    refuse(field, "contains control characters");
}
void check_value(const std::string&, const json&) {}
void check_value(const std::string& field, const BlockRanges& value) { check_ranges(field, value); }
// Lists of numbers are measurements, lists of anything else are of members.
template <class Element>
constexpr std::size_t most_entries = std::is_same_v<Element, double> ? kMaxNumbers : kMaxMembers;
template <class Element>
void check_value(const std::string& field, const std::vector<Element>& value) {
  check_count(field, value.size(), most_entries<Element>);
  for (const Element& element : value) check_value(field, element);
}
template <class Element>
void check_value(const std::string& field, const std::map<std::string, Element>& value) {
  check_count(field, value.size(), kMaxMembers);
  for (const auto& [name, element] : value) check_value(field, element);
}

void read(const std::string& field, const json& from, bool& value) {
  if (!from.is_boolean()) refuse(field, "expected true or false");
  value = from.get<bool>();
}
template <std::integral T>
void read(const std::string& field, const json& from, T& value) {
  if (!from.is_number_integer()) refuse(field, "expected a whole number");
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  const bool fits = from.is_number_unsigned() ? from.get<std::uint64_t>() <= most : false;
  if (!fits) refuse(field, fmt::format("expected a whole number from 0 to {}", most));
  value = from.get<T>();
}
void read(const std::string& field, const json& from, double& value) {
  if (!from.is_number()) refuse(field, "expected a number");
  value = from.get<double>();
}
void read(const std::string& field, const json& from, std::string& value) {
  if (!from.is_string()) refuse(field, "expected a string");
  value = from.get<std::string>();
}
void read(const std::string&, const json& from, json& value) { value = from; }
void read(const std::string& field, const json& from, BlockRanges& value) {
  if (!from.is_array()) refuse(field, "expected a list of ranges");
  check_count(field, from.size(), kMaxRanges);
  for (const json& range : from) {
    if (!range.is_array() || range.size() != 2) refuse(field, "expected pairs of whole numbers");
    value.emplace_back();
    read(field, range[0], value.back().first);
    read(field, range[1], value.back().second);
  }
}
template <class Element>
void read(const std::string& field, const json& from, std::vector<Element>& value) {
  if (!from.is_array()) refuse(field, "expected a list");
  check_count(field, from.size(), most_entries<Element>);
  for (const json& element : from) read(field, element, value.emplace_back());
}
template <class Element>
void read(const std::string& field, const json& from, std::map<std::string, Element>& value) {
  if (!from.is_object()) refuse(field, "expected an object");
  check_count(field, from.size(), kMaxMembers);
  for (const auto& [name, element] : from.items()) read(field + "." + name, element, value[name]);
}

// --- Objects ---

template <class T>
json write_object(const std::string& where, const T& object);
template <class T>
void read_object(const std::string& where, const json& from, T& object, bool has_type);

template <class T>
constexpr bool is_nested =
    std::is_same_v<T, CommittedModel> || std::is_same_v<T, ClockSpec> || std::is_same_v<T, DeltaReport>;

struct Writer {
  const std::string& where;
  json out = json::object();

  template <class T>
  void operator()(const char* name, const T& value) {
    const std::string field = where + "." + name;
    if constexpr (is_nested<T>) {
      out[name] = write_object(field, value);
    } else {
      check_value(field, value);
      out[name] = value;
    }
  }
};

struct Reader {
  const std::string& where;
  const json& from;
  std::set<std::string> known;

  template <class T>
  void operator()(const char* name, T& value) {
    const std::string field = where + "." + name;
    const auto found = from.find(name);
    if (found == from.end()) refuse(field, "is missing");
    known.insert(name);
    if constexpr (is_nested<T>) {
      read_object(field, *found, value, false);
    } else {
      read(field, *found, value);
      check_value(field, value);
    }
  }
};

template <class T>
json write_object(const std::string& where, const T& object) {
  Writer writer{where};
  Schema<T>::fields(object, writer);
  check_rules(where, object);
  return std::move(writer.out);
}

template <class T>
void read_object(const std::string& where, const json& from, T& object, bool has_type) {
  if (!from.is_object()) refuse(where, "expected an object");
  Reader reader{where, from, {}};
  if (has_type) reader.known.insert("type");
  Schema<T>::fields(object, reader);
  for (const auto& [name, value] : from.items())
    if (!reader.known.count(name)) refuse(where + "." + name, "is not a known field");
  check_rules(where, object);
}

// Parses with two rules that JSON itself lacks: bounded depth, and no key twice in the outermost object.
json parse_line(std::string_view line) {
  if (line.size() > kMaxLine)
    refuse("line", fmt::format("has {} bytes, more than {}", line.size(), kMaxLine));
  std::set<std::string> keys;
  const auto inspect = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) refuse("line", fmt::format("is nested deeper than {} levels", kMaxDepth));
    if (event == json::parse_event_t::key && depth == 1 && !keys.insert(value.get<std::string>()).second)
      refuse(value.get<std::string>(), "appears twice");
    return true;
  };
  try {
    return json::parse(line.begin(), line.end(), inspect);
  } catch (const json::exception&) {
    refuse("line", "is not JSON");
  }
}

template <std::size_t Index = 0>
Message read_message(const std::string& type, const json& from) {
  if constexpr (Index < std::variant_size_v<Message>) {
    using T = std::variant_alternative_t<Index, Message>;
    if (type != Schema<T>::type) return read_message<Index + 1>(type, from);
    T message;
    read_object(type, from, message, true);
    return message;
  } else {
    refuse(type, "is not a known type of message");
  }
}

}  // namespace

std::string encode(const Message& message) {
  return std::visit(
      [](const auto& m) {
        using T = std::decay_t<decltype(m)>;
        json object = write_object(Schema<T>::type, m);
        object["type"] = Schema<T>::type;
        std::string line = object.dump(-1, ' ', true, json::error_handler_t::replace);
        if (line.size() > kMaxLine)
          refuse(Schema<T>::type, fmt::format("has {} bytes, more than {}", line.size(), kMaxLine));
        return line;
      },
      message);
}

namespace {

// The hello of another version may have other fields. Who speaks, and in which version, is said alike in all of them: so
// the hub can refuse it by name instead of dropping a stranger without a word.
bool of_another_version(const std::string& type, const json& from) {
  const auto protocol = from.find("protocol");
  return type == Schema<Hello>::type && protocol != from.end() && protocol->is_number_integer() &&
         *protocol != kProtocolVersion;
}

json as_own_hello(const json& from) {
  Hello own;
  own.member = own.role = "site";  // replaced
  json hello = json::parse(encode(own));
  for (const char* name : {"protocol", "member", "role"}) hello[name] = from.value(name, json());
  return hello;
}

}  // namespace

Message decode(std::string_view line) {
  const json from = parse_line(line);
  if (!from.is_object()) refuse("line", "is not a JSON object");
  const auto type = from.find("type");
  if (type == from.end()) refuse("type", "is missing");
  if (!type->is_string()) refuse("type", "expected a string");
  const auto name = type->get<std::string>();
  return read_message(name, of_another_version(name, from) ? as_own_hello(from) : from);
}

}  // namespace spillway
