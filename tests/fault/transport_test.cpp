// Couriers and gateways under faults, with a scripted hub: whatever is killed, the others live on, and nothing is left.
#include <csignal>
#include <filesystem>
#include <iterator>

#include "core/hash.hpp"
#include "tests/catch.hpp"
#include "tests/fault/scripted_hub.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

constexpr std::int64_t kParameters = 300'001;
const std::vector<double> kWeights = {0.25, 0.75, 0};

Go average(const ScriptedHub& hub, std::int64_t round, std::vector<double> weights = kWeights) {
  return {hub.epoch(), round, "average", 0, std::move(weights), false, {round, 10, ""}};
}

std::size_t open_descriptors(pid_t pid) {
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

void dismiss(ScriptedHub& hub, const std::string& name, Member& member) {
  hub.send(name, Complete{});
  CHECK(hub.expect<Bye>(name).reason == "complete");
  CHECK(member.wait() == 0);
}

// A scripted hub and two members that have said hello.
struct TwoMembers {
  TwoMembers() {
    for (const char* name : {"a", "b"}) hub.await_hello(name);
  }
  // Both end and leave nothing behind.
  void part() {
    dismiss(hub, "a", a);
    dismiss(hub, "b", b);
    CHECK(playground.leftovers() == "");
  }

  Playground playground;
  ScriptedHub hub{playground};
  Member a{playground, hub.member_config(), "a", kParameters};
  Member b{playground, hub.member_config(), "b", kParameters};
};

}  // namespace

TEST_CASE("three members form, bring one up to date, adopt, average and part") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", kParameters);
  Member b(playground, hub.member_config(), "b", kParameters);
  Member c(playground, hub.member_config(), "c", kParameters);
  for (const char* name : {"a", "b", "c"}) CHECK(hub.await_hello(name).probe.rfind("127.0.0.1:", 0) == 0);
  hub.form({"a", "b", "c"});

  const CommittedModel model{4, 200, ""};
  for (const char* name : {"a", "b", "c"}) hub.send(name, Sync{hub.epoch(), model, 1, {2, 0}});
  const auto parameters = contribution_vector(1, 0, kParameters);
  const auto velocity = contribution_vector(1, 1000, kParameters);
  for (const char* name : {"a", "c"})
    CHECK(hub.expect<Synced>(name).model.hash == xxh3_hex({bytes_of(parameters), bytes_of(velocity)}));
  // A sync that leaves one member out.
  for (const char* name : {"a", "b", "c"}) hub.send(name, Sync{hub.epoch(), model, 1, {2}});
  CHECK(hub.expect<Synced>("c").model.version == 4);

  hub.merge({hub.epoch(), 1, "adopt", 1, {0, 1, 0}, false, {5, 210, ""}}, kParameters);
  hub.merge(average(hub, 2), kParameters);
  Go nesterov = average(hub, 3);
  nesterov.merge = "nesterov";
  hub.merge(nesterov, kParameters);

  // The couriers have probed each other by now.
  const bool reached = eventually(10, [&] {
    const auto reach = hub.expect<MemberHeartbeat>("a").reach;
    return reach.count("b") && reach.at("b") && reach.count("c") && reach.at("c");
  });
  CHECK(reached);

  hub.stop();
  hub.form({"c", "a"});
  hub.merge(average(hub, 4, {0.5, 0.5}), kParameters);
  hub.stop();
  dismiss(hub, "a", a);
  dismiss(hub, "b", b);
  dismiss(hub, "c", c);
  CHECK(playground.leftovers() == "");
}

TEST_CASE_METHOD(TwoMembers,
                 "the gateways of several streams share out the vectors, and fail and end together") {
  constexpr int streams = 3;
  hub.form({"a", "b"}, streams);
  for (const char* name : {"a", "b"}) hub.send(name, Sync{hub.epoch(), {4, 200, ""}, 0, {1}});
  CHECK(hub.expect<Synced>("b").model.hash ==
        xxh3_hex({bytes_of(contribution_vector(0, 0, kParameters)),
                  bytes_of(contribution_vector(0, 1000, kParameters))}));
  hub.merge({hub.epoch(), 1, "adopt", 1, {0, 1}, false, {5, 210, ""}}, kParameters);
  hub.merge(average(hub, 2, {0.25, 0.75}), kParameters);

  const auto gateways = b.gateways(streams);
  kill(gateways[static_cast<std::size_t>(GENERATE(0, 1, 2))], SIGKILL);
  CHECK(hub.expect<Fail>("b").reason == "gateway ended with status 137");
  for (const pid_t gateway : gateways) CHECK_FALSE(alive(gateway));
  hub.abort();

  hub.form({"a", "b"}, 1);
  b.gateways(1);
  hub.stop();
  hub.form({"b", "a"}, streams);
  hub.merge(average(hub, 3, {0.5, 0.5}), kParameters);
  hub.stop();
  part();
}

TEST_CASE("a site with too few ports for an epoch's streams says so") {
  Playground playground;
  ScriptedHub hub(playground);
  FederationConfig config = hub.member_config();
  config.port_count = 128;
  Member a(playground, config, "a", kParameters);
  hub.await_hello("a");
  hub.begin_epoch({"a"}, 16);
  const std::string reason = hub.expect<Fail>("a").reason;
  INFO(reason);
  CHECK(reason.rfind("fewer than 16 of the ports ", 0) == 0);
  CHECK(reason.find("are free: raise --federation.port-count") != std::string::npos);
  hub.abort();
  dismiss(hub, "a", a);
  CHECK(playground.leftovers() == "");
}

TEST_CASE("a killed gateway costs its epoch and nothing else") {
  constexpr std::int64_t many = 8'000'000;  // an exchange takes tens of milliseconds
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", many);
  Member b(playground, hub.member_config(), "b", many);
  for (const char* name : {"a", "b"}) hub.await_hello(name);

  SECTION("while idle") {
    hub.form({"a", "b"});
    kill(b.gateway(), SIGKILL);
  }
  SECTION("while the others wait for its leader's contribution") {
    hub.form({"a", "b"});
    hub.send("a", average(hub, 1, {0.5, 0.5}));
    hub.run(0.1);
    kill(b.gateway(), SIGKILL);
  }
  SECTION("at some moment of an exchange") {
    hub.form({"a", "b"});
    const pid_t gateway = b.gateway();
    for (const char* name : {"a", "b"}) hub.send(name, average(hub, 1, {0.5, 0.5}));
    const double delay_s = GENERATE(0.01, 0.03, 0.06);
    hub.run(delay_s);
    kill(gateway, SIGKILL);
  }
  SECTION("while the epoch forms") {
    hub.begin_epoch({"a", "b"});
    kill(b.gateway(), SIGKILL);
  }
  const Fail failure = hub.expect<Fail>("b");
  CHECK(failure.epoch == hub.epoch());
  CHECK(failure.reason.find("ended with status 137") != std::string::npos);
  hub.abort();
  hub.form({"a", "b"});
  hub.merge(average(hub, 2, {0.5, 0.5}), many);
  hub.stop();
  dismiss(hub, "a", a);
  dismiss(hub, "b", b);
  CHECK(playground.leftovers() == "");
}

TEST_CASE_METHOD(TwoMembers, "a stopped gateway is named by its peers") {
  hub.form({"a", "b"});
  kill(b.gateway(), SIGSTOP);
  const Fail failure = hub.expect<Fail>("a");
  CHECK(failure.reason == "member b silent for 3 s");
  CHECK(failure.peer == "b");
  hub.abort();
  part();
}

TEST_CASE("a courier tells that its leader is stopped, and not that it is busy") {
  Playground playground;
  ScriptedHub hub(playground);
  const FederationConfig config = hub.member_config();
  Member a(playground, config, "a", kParameters);
  hub.await_hello("a");
  // Whether the courier has said so within this time.
  const auto silent_within = [&](double seconds, bool expected) {
    const double end_s = monotonic_s() + seconds;
    bool said = !expected;
    while (said != expected && monotonic_s() < end_s) said = hub.expect<MemberHeartbeat>("a").silent;
    return said == expected;
  };
  const auto busy_s = static_cast<std::int64_t>(2 * config.lost_after_s);
  hub.send("a", Finish{busy_s});
  CHECK_FALSE(silent_within(static_cast<double>(busy_s), true));

  REQUIRE(kill(a.pid(), SIGSTOP) == 0);
  const double stopped_s = monotonic_s();
  CHECK(silent_within(config.lost_after_s + 3, true));
  CHECK(monotonic_s() - stopped_s > config.lost_after_s - 0.5);
  REQUIRE(kill(a.pid(), SIGCONT) == 0);
  CHECK(silent_within(3, false));
  dismiss(hub, "a", a);
}

TEST_CASE_METHOD(TwoMembers, "a killed courier is replaced, and its gateway ends with it") {
  hub.form({"a", "b"});
  const pid_t courier = b.courier(), gateway = b.gateway();
  kill(courier, SIGKILL);
  CHECK(eventually(5, [&] {
    hub.run(0.05);
    return !hub.connected("b");
  }));
  hub.abort();
  CHECK(hub.await_hello("b").member == "b");
  CHECK(b.courier() != courier);
  CHECK_FALSE(alive(gateway));
  hub.form({"a", "b"});
  hub.merge(average(hub, 1, {0.5, 0.5}), kParameters);
  hub.stop();
  part();
}

TEST_CASE("a killed leader takes its courier and gateway along, the others go on") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", kParameters);
  Member b(playground, hub.member_config(), "b", kParameters);
  Member c(playground, hub.member_config(), "c", kParameters);
  for (const char* name : {"a", "b", "c"}) hub.await_hello(name);
  hub.form({"a", "b", "c"});
  const bool in_round = GENERATE(false, true);
  if (in_round) {  // the others' gateways wait for the dead one
    for (const char* name : {"a", "c"}) hub.send(name, average(hub, 1));
    hub.run(0.1);
  }
  b.kill_leader();
  CHECK(hub.expect<Fail>("b").reason == "leader ended");
  CHECK(hub.expect<Bye>("b").reason == "leader ended");
  hub.abort();
  hub.form({"a", "c"});
  hub.merge(average(hub, 2, {0.5, 0.5}), kParameters);
  hub.stop();
  dismiss(hub, "a", a);
  dismiss(hub, "c", c);
  CHECK(playground.leftovers() == "");
}

TEST_CASE("without the hub there is no gateway, and a result without a commit stays in doubt") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", kParameters);
  Member b(playground, hub.member_config(), "b", kParameters);
  for (const char* name : {"a", "b"}) CHECK(hub.await_hello(name).doubt_epoch == 0);
  const std::int64_t epoch = hub.form({"a", "b"});
  const pid_t gateway = a.gateway(), courier = a.courier();
  for (const char* name : {"a", "b"}) hub.send(name, average(hub, 7, {0.5, 0.5}));
  for (const char* name : {"a", "b"}) hub.expect<Done>(name);
  hub.disconnect("a");

  const Hello again = hub.await_hello("a");
  CHECK(again.doubt_epoch == epoch);
  CHECK(again.doubt_round == 7);
  CHECK_FALSE(alive(gateway));
  CHECK(alive(courier));

  SECTION("until the hub tells the outcome") {
    hub.send("a", Outcome{epoch, 7, true});
    hub.run(0.3);
    hub.disconnect("a");
    CHECK(hub.await_hello("a").doubt_epoch == 0);
  }
  SECTION("also when the courier is killed meanwhile") {
    kill(courier, SIGKILL);
    hub.run(0.3);
    const Hello from_new_courier = hub.await_hello("a");
    CHECK(from_new_courier.doubt_epoch == epoch);
    CHECK(from_new_courier.doubt_round == 7);
  }
  hub.abort();
  dismiss(hub, "a", a);
  dismiss(hub, "b", b);
  CHECK(playground.leftovers() == "");
}

TEST_CASE("a second site of one name is refused and ends") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", 10);
  hub.await_hello("a");
  Member twin(playground, hub.member_config(), "a", 10);
  CHECK(eventually(10, [&] {
    hub.run(0.05);
    return !twin.running();
  }));
  CHECK(twin.wait() == 64);
  dismiss(hub, "a", a);
  CHECK(playground.leftovers() == "");
}

TEST_CASE("a hub that talks nonsense is left and tried again") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", 10);
  hub.await_hello("a");
  const std::string nonsense = GENERATE(as<std::string>{}, "nonsense", R"({"type":"stop"})",
                                        R"({"type":"stopped","epoch":1})");  // a member's message
  // What follows the nonsense must not be obeyed: the member would end.
  hub.send_line("a", nonsense + "\n" + encode(Refuse{65, "not to be read"}));
  CHECK(eventually(5, [&] {
    hub.run(0.02);
    return !hub.connected("a");
  }));
  hub.await_hello("a");
  CHECK(a.running());
  dismiss(hub, "a", a);
  CHECK(playground.leftovers() == "");
}

// Not part of a normal run: ./test_fault "[soak]".
TEST_CASE("epochs form and end many times", "[.][soak]") {
  Playground playground;
  ScriptedHub hub(playground);
  Member a(playground, hub.member_config(), "a", kParameters);
  Member b(playground, hub.member_config(), "b", kParameters);
  Member c(playground, hub.member_config(), "c", kParameters);
  for (const char* name : {"a", "b", "c"}) hub.await_hello(name);
  const pid_t courier = a.courier();
  std::size_t descriptors = 0;
  for (int i = 0; i < 100; ++i) {
    if (i == 1) descriptors = open_descriptors(courier);
    hub.form({"a", "b", "c"});
    hub.merge(average(hub, i + 1), kParameters);
    hub.stop();
  }
  CHECK(open_descriptors(courier) <= descriptors + 1);  // a probe may be under way
  dismiss(hub, "a", a);
  dismiss(hub, "b", b);
  dismiss(hub, "c", c);
  CHECK(playground.leftovers() == "");
}
