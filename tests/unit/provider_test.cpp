// The signal providers, against a stand-in server on this machine.
#include "energy/provider.hpp"

#include <filesystem>
#include <fstream>

#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/gate.hpp"
#include "energy/live_signal.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"
#include "tests/run_spillway.hpp"
#include "tests/unit/stand_in.hpp"

using namespace spillway;

namespace {

HttpOptions quick() {
  HttpOptions options;
  options.first_wait_s = 0.01;
  options.timeout_s = 20;
  return options;
}

// A configuration with the key in a file of the folder.
SignalConfig configured(const StandIn& server, const TemporaryFolder& folder, const std::string& provider,
                        const std::string& key, const std::string& region = "SOMEWHERE") {
  SignalConfig config;
  config.provider = provider;
  config.url = server.url();
  config.region = region;
  config.key_file = (folder.path() / "key").string();
  std::ofstream(config.key_file) << key << "\n";
  return config;
}

double at(const char* text) { return *parse_utc(text); }

std::string message_of(const std::function<void()>& action, ExitCode code) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "nothing went wrong";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t count(const std::vector<std::string>& log, const std::string& start) {
  return static_cast<std::size_t>(
      std::count_if(log.begin(), log.end(), [&](const auto& path) { return path.starts_with(start); }));
}

}  // namespace

TEST_CASE("WattTime: login, pieces of 30 days, a token that expires") {
  const StandIn server;
  const TemporaryFolder folder;
  const auto provider = make_provider(configured(server, folder, "watttime", "user:sec ret"), quick());
  const Signal signal = provider->history(at("2022-06-01T00:00:00Z"), at("2022-09-01T00:00:00Z"));
  CHECK(signal.values.size() == 92 * 288);
  CHECK(signal.gaps().empty());
  CHECK(signal.unit == "g/kWh");
  CHECK(signal.values[0] == Approx(453.59237));
  const auto log = server.log();
  // Four pieces; the stand-in's tokens are good for two requests, the third answer is 401.
  CHECK(count(log, "/login") == 2);
  CHECK(count(log, "/v3/historical") == 5);
  CHECK(
      has(log[1], "region=SOMEWHERE&signal_type=co2_moer&start=2022-06-01T00%3A00%3A00Z&end=2022-06-30T23"));
  CHECK(provider->forecast().values.size() == 13);
}

TEST_CASE("WattTime's index is a percentile: no intensity, no history") {
  const StandIn server;
  const TemporaryFolder folder;
  const auto provider = make_provider(configured(server, folder, "watttime-index", "user:sec ret"), quick());
  const Signal signal = provider->live(0);
  CHECK(signal.values == std::vector<double>{50});
  CHECK(signal.unit == "percentile");
  CHECK_FALSE(signal.is_intensity());
  CHECK(has(server.log().back(), "/v3/signal-index?region=SOMEWHERE&signal_type=co2_moer"));
  GateConfig gate;
  gate.percentile = 20;
  CHECK(message_of([&] { make_thresholds(gate, signal); }, ExitCode::usage) ==
        "gate.percentile: the signal is a percentile already; set gate.open-below = 20 instead");
  server.get("/set?100.5");
  CHECK(has(message_of([&] { provider->live(0); }, ExitCode::bad_data),
            "point 1: 100.5 is no percentile from 0 to 100"));
  const auto none = message_of([&] { provider->history(0, 600); }, ExitCode::usage);
  CHECK(none == "signal.provider = watttime-index has no history");
}

TEST_CASE("Electricity Maps: key, pieces of 10 days, null values") {
  const StandIn server;
  const TemporaryFolder folder;
  const auto provider =
      make_provider(configured(server, folder, "electricity-maps", "secret", "DE"), quick());
  const Signal signal = provider->history(at("2024-01-01T00:00:00Z"), at("2024-01-22T00:00:00Z"));
  CHECK(signal.values.size() == 21 * 24 - 3);
  CHECK(signal.gaps().empty());  // a blank hour is bridged
  CHECK(count(server.log(), "/v3/carbon-intensity/past-range?zone=DE") == 3);
  CHECK(provider->live(0).values == std::vector<double>{216});
  CHECK(provider->forecast().step_s == 3600);
}

TEST_CASE("UK Carbon Intensity: actual in history, forecast live") {
  const StandIn server;
  SignalConfig config;
  config.provider = "uk-carbon-intensity";
  config.url = server.url() + "/";
  const auto provider = make_provider(config, quick());
  const Signal signal = provider->history(at("2020-05-01T00:00:00Z"), at("2020-05-20T00:00:00Z"));
  CHECK(signal.start_unix_s() == at("2020-05-01T00:00:00Z"));
  CHECK(signal.values[0] == 150);
  CHECK(server.log().size() == 2);
  CHECK(provider->live(at("2020-05-24T20:45:00Z")).values[0] == 140);
}

TEST_CASE("any JSON by a pointer") {
  const StandIn server;
  const TemporaryFolder folder;
  SignalConfig config = configured(server, folder, "http", "secret");
  config.url = server.url("/value");
  config.key_header = GENERATE("auth-token: ", "auth-token:");  // an INI file keeps no blank at the end
  config.unit = "MW";
  config.pointer = "/grid/0/mw";
  CHECK(make_provider(config, quick())->live(123).values == std::vector<double>{50});
  CHECK(make_provider(config, quick())->live(123).times_unix_s == std::vector<double>{123});
  config.time_pointer = "/grid/0/at";
  config.pointer = "/grid/0/text";
  config.unit = "lb/MWh";
  const Signal signal = make_provider(config, quick())->live(123);
  CHECK(signal.times_unix_s[0] == at("2026-01-11T17:00:00Z"));
  CHECK(signal.values[0] == Approx(12.5 * 0.45359237));
  const auto live = [&](const char* pointer) {
    config.pointer = pointer;
    return message_of([&] { make_provider(config, quick())->live(0); }, ExitCode::bad_data);
  };
  CHECK(has(live("/grid/7/mw"), "/value: the answer has no /grid/7/mw"));
  CHECK(has(live("/grid"), "signal.pointer leads to [{"));
  config.url = server.url("/away");
  CHECK(has(live("/grid/0/mw"), "/away: status 302"));  // not followed
}

TEST_CASE("a busy server is asked again, a broken one is given up") {
  const StandIn server;
  const TemporaryFolder folder;
  const auto history = [&](const std::string& region) {
    return make_provider(configured(server, folder, "electricity-maps", "secret", region), quick())
        ->history(at("2024-01-01T00:00:00Z"), at("2024-01-02T00:00:00Z"));
  };
  CHECK(history("BUSY").values.size() == 23);
  CHECK(count(server.log(), "/v3/carbon-intensity/past-range?zone=BUSY") == 3);
  const std::string broken = message_of([&] { history("BROKEN"); }, ExitCode::io);
  CHECK(has(broken, "/v3/carbon-intensity/past-range: status 503 (after 4 attempts)"));
  CHECK(has(message_of([&] { history("HTML"); }, ExitCode::bad_data), "not JSON"));
}

TEST_CASE("keys and what they may") {
  const StandIn server;
  const TemporaryFolder folder;
  const double from = at("2024-01-01T00:00:00Z"), to = at("2024-01-02T00:00:00Z");
  const auto ask = [&](const SignalConfig& config) {
    return message_of([&] { make_provider(config, quick())->history(from, to); }, ExitCode::usage);
  };
  const std::string wrong = ask(configured(server, folder, "watttime", "user:hush-hush"));
  CHECK(has(wrong, "/login: refused with status 401"));
  CHECK_FALSE(has(wrong, "hush"));
  CHECK(has(ask(configured(server, folder, "watttime", "user:sec ret", "REFUSED")),
            "403: Invalid scope. Pay."));
  CHECK(has(ask(configured(server, folder, "watttime", "hush")), "must be USER:PASSWORD"));
  CHECK(has(ask(configured(server, folder, "electricity-maps", "")), "the key is empty"));
  CHECK(has(ask(configured(server, folder, "electricity-maps", "secret", "")), "signal.region must be set"));
  SignalConfig config = configured(server, folder, "electricity-maps", "secret");
  config.key_file.clear();
  CHECK(has(ask(config), "needs signal.key-file or signal.key-env"));
  config.key_env = "SPILLWAY_TEST_NO_SUCH_KEY";
  CHECK(has(ask(config), "the environment has no such variable"));
  config = configured(server, folder, "electricity-maps", "secret");
  config.url = "http://example.invalid/api?key=hush";
  CHECK(ask(config) == "signal.url = 'http://example.invalid/api': a key goes over https:// only");
  config.url = "ftp://127.0.0.1/";
  CHECK(has(ask(config), "must start with https://"));
  config.provider = "oracle";
  CHECK(has(ask(config), "signal.provider = 'oracle': must be file, watttime"));
}

TEST_CASE("certificates are verified") {
  const TemporaryFolder folder;
  const std::string key = (folder.path() / "key.pem").string(),
                    certificate = (folder.path() / "cert.pem").string();
  ProcessOptions options;
  options.arguments = {"openssl", "req", "-x509", "-newkey",       "rsa:2048", "-nodes",
                       "-days",   "2",   "-subj", "/CN=127.0.0.1", "-addext",  "subjectAltName=IP:127.0.0.1",
                       "-keyout", key,   "-out",  certificate};
  options.output_file = (folder.path() / "openssl.log").string();
  Process openssl(options);
  REQUIRE(openssl.wait(60));
  REQUIRE(*openssl.status() == 0);
  const StandIn server({"--tls", certificate, key});
  HttpOptions http = quick();
  http.attempts = 1;
  CHECK(has(message_of(
                [&] {
                  http_get({server.url("/value"), {}, ""}, http);
                },
                ExitCode::io),
            "certificate"));
  http.ca_file = certificate;
  CHECK(http_get({server.url("/value"), {}, ""}, http).status == 200);
}

TEST_CASE("recorded answers of the real APIs") {
  const auto recorded = real_trace("api");
  if (!recorded) return;
  const StandIn server({"--recorded", recorded->string()});
  const TemporaryFolder folder;
  const auto watttime =
      make_provider(configured(server, folder, "watttime", "user:sec ret", "RECORDED"), quick());
  // The recorded body is of another region than was asked for.
  CHECK(has(message_of([&] { watttime->history(0, 600); }, ExitCode::bad_data), "no region 'RECORDED'"));
  const auto index =
      make_provider(configured(server, folder, "watttime-index", "user:sec ret", "RECORDED"), quick());
  CHECK(has(message_of([&] { index->live(0); }, ExitCode::bad_data), "one of: PSCO"));
  const auto maps =
      make_provider(configured(server, folder, "electricity-maps", "secret", "RECORDED"), quick());
  CHECK(has(message_of([&] { maps->live(0); }, ExitCode::bad_data), "one of: US-CAR-DUK"));
}

TEST_CASE("a value is held for a stated time, then unknown") {
  Signal signal;
  signal.step_s = 300;
  signal.times_unix_s = {1000, 1300};
  signal.values = {5, 6};
  CHECK_FALSE(held_value(signal, 999, 900));
  CHECK(held_value(signal, 1299, 900) == 5);
  CHECK(held_value(signal, 1600 + 899, 900) == 6);
  CHECK_FALSE(held_value(signal, 1600 + 900, 900));
  CHECK_FALSE(held_value(signal, 1600, 0));
  CHECK_FALSE(held_value({}, 0, 900));
}

TEST_CASE("a file that something else updates") {
  const TemporaryFolder folder;
  SignalConfig config;
  config.provider = "file";
  config.file = (folder.path() / "now.csv").string();
  const auto provider = make_provider(config, {});
  CHECK(has(message_of([&] { provider->live(0); }, ExitCode::bad_data), "now.csv"));
  std::ofstream(config.file) << "point_time,here\n2026-01-01T00:00:00Z,1\n2026-01-01T00:05:00Z,2\n";
  CHECK(provider->live(0).values.size() == 2);
  std::ofstream(config.file, std::ios::app) << "2026-01-01T00:10:00Z,3\n";
  std::filesystem::last_write_time(config.file,
                                   std::filesystem::last_write_time(config.file) + std::chrono::seconds(2));
  CHECK(provider->live(0).values == std::vector<double>{1, 2, 3});
}

TEST_CASE("spillway signal fetch writes what a provider says, and no keys") {
  const StandIn server;
  const TemporaryFolder folder;
  const SignalConfig config = configured(server, folder, "electricity-maps", "secret", "DE");
  const auto fetch = [&](const std::string& what) {
    return run_spillway({"signal", "fetch", "--provider", "electricity-maps", "--key-file", config.key_file,
                         "--signal.url", config.url, "--region", "DE", "--from", "2024-01-01T00:00:00Z",
                         "--to", "2024-01-02T00:00:00Z", "--what", what});
  };
  const Outcome outcome = fetch("history");
  INFO(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(outcome.output.starts_with("point_time,DE\n2024-01-01T00:00:00Z,100\n"));
  CHECK(std::count(outcome.output.begin(), outcome.output.end(), '\n') == 25);
  CHECK_FALSE(has(outcome.output, "secret"));
  CHECK(has(fetch("weather").output, "--what weather: must be history or forecast"));
}
