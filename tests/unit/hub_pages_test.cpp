// The hub's metrics and status page, and the HTTP server that gives them out.
#include "report/hub_page.hpp"

#include <fmt/format.h>
#include <poll.h>

#include "comm/http_server.hpp"
#include "comm/line_socket.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "report/hub_metrics.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

nlohmann::json status() {
  const nlohmann::json iowa = {{"role", "site"},
                               {"open", true},
                               {"lagging", false},
                               {"silent", false},
                               {"version", 7},
                               {"leased_blocks", 12},
                               {"in_epoch", true},
                               {"refused_deltas", 1},
                               {"progress",
                                {{"state", "federated"},
                                 {"step", 350},
                                 {"loss_nats", 3.25},
                                 {"tokens_per_s", 7100.5},
                                 {"tokens", 126976},
                                 {"energy_kwh", 6.85},
                                 {"emissions_g", 489.9},
                                 {"window_left_s", 1140}}}};
  nlohmann::json vault = iowa;
  vault["role"] = "vault";
  vault["progress"] = nullptr;
  return {{"clock_unix_s", 1768150800.0},
          {"version", 7},
          {"hash", "0123456789abcdef0123456789abcdef"},
          {"blocks", 350},
          {"target", 400},
          {"complete", false},
          {"rounds", {{"solo", 3}, {"federated", 4}}},
          {"free_blocks", 38},
          {"members", {{"iowa", iowa}, {"vault", vault}}},
          {"epoch", {{"id", 3}, {"state", "up"}, {"members", {"iowa", "vault"}}, {"state_age_s", 2.5}}}};
}

nlohmann::json round(int version) {
  return {{"clock_unix_s", 1768150800.0 + version},
          {"epoch", 3},
          {"round", version},
          {"version", version},
          {"blocks", 50 * version},
          {"merge", "nesterov"},
          {"train_s", 12.5},
          {"form_s", 0},
          {"wait_s", 0.25},
          {"exchange_s", 1.5},
          {"apply_s", 0.125},
          {"sites", {{"iowa", {{"norm", 2.5}, {"tokens", 64}, {"loss_nats", 4.0 - 0.1 * version}}}}},
          {"cosines", {{"iowa·texas", 0.41}}}};
}

bool has(const std::string& text, const std::string& part) {
  INFO("looking for " << part << " in\n" << text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

// The server's answer to a request.
std::string fetch(HttpServer& server, const std::string& request) {
  LineSocket client = LineSocket::connect({"127.0.0.1", server.port()}, 5);
  client.send(request + "\r\nHost: localhost\r\n\r");
  std::string answer;
  const double end_s = monotonic_s() + 20;
  while (client.open() && monotonic_s() < end_s) {
    server.step();
    client.on_ready();
    while (const auto line = client.next_line()) answer += *line + "\n";
    poll(nullptr, 0, 1);
  }
  return answer;
}

}  // namespace

TEST_CASE("metrics in Prometheus' text format") {
  const std::string text = hub_metrics(status(), {round(6), round(7)});
  has(text, "# TYPE spillway_model_version gauge\nspillway_model_version 7\n");
  has(text, "spillway_rounds{kind=\"federated\"} 4\n");
  has(text, "spillway_member_window_open{member=\"iowa\"} 1\n");
  has(text, "spillway_member_refused_deltas{member=\"iowa\"} 1\n");
  has(text, "spillway_site_loss_nats{member=\"iowa\"} 3.25\n");
  has(text, "spillway_site_emissions_g{member=\"iowa\"} 489.9\n");
  has(text, "spillway_epoch_members 2\n");
  has(text, "spillway_round_seconds{phase=\"exchange\"} 1.5\n");
  has(text, "spillway_delta_norm{member=\"iowa\"} 2.5\n");
  CHECK(text.find("site_loss_nats{member=\"vault\"}") == std::string::npos);
  CHECK(text.back() == '\n');
}

TEST_CASE("whatever members report of themselves, metrics and page come out") {
  auto strange = status();
  strange["epoch"] = nullptr;
  const nlohmann::json progress =
      GENERATE(nlohmann::json(), nlohmann::json::array({1, 2}), nlohmann::json("text"),
               nlohmann::json{{"loss_nats", "<script>alert(1)</script>"},
                              {"state", "<script>alert(2)</script>"},
                              {"energy_kwh", nlohmann::json::object()}});
  strange["members"]["iowa"]["progress"] = progress;
  const std::string metrics = hub_metrics(strange, {}), page = hub_page(strange, {});
  CHECK(metrics.find("alert") == std::string::npos);
  CHECK(page.find("<script") == std::string::npos);
  has(page, "No round has been committed");
}

TEST_CASE("the status page shows sites, loss and rounds, with nothing from elsewhere") {
  const std::string page = hub_page(status(), {round(5), round(6), round(7)});
  has(page, "<svg");
  has(page, "iowa");
  has(page, "federated");
  has(page, "6.85\u00a0kWh");
  has(page, "350 of 400 steps");
  has(page, "iowa·texas 0.41");
  CHECK(page.find("http://") == page.find("http://www.w3.org"));
  CHECK(page.find("https://") == std::string::npos);
  CHECK(page.find("<script") == std::string::npos);
}

TEST_CASE("the HTTP server answers GET and nothing else") {
  HttpServer server({"127.0.0.1", 0}, [](const std::string& path) -> std::optional<HttpPage> {
    if (path != "/metrics") return std::nullopt;
    return HttpPage{"text/plain", "up 1", 5};
  });
  const std::string good = fetch(server, "GET /metrics?x=1 HTTP/1.1");
  has(good, "HTTP/1.1 200 OK\r\n");
  has(good, "Content-Length: 5\r\n");
  has(good, "Refresh: 5\r\n");
  has(good, "\r\n\r\nup 1\n");
  has(fetch(server, "GET /other HTTP/1.1"), "404 Not Found");
  has(fetch(server, "POST /metrics HTTP/1.1"), "405 Method Not Allowed");
  has(fetch(server, "nonsense"), "400 Bad Request");
  CHECK(fetch(server, "GET / HTTP/1.1\r\n" + std::string(200, '\n')).find("200 OK") == std::string::npos);
}

TEST_CASE("the HTTP server stays on the loopback interface") {
  const std::string host = GENERATE(as<std::string>(), "0.0.0.0", "192.0.2.1", "::", "example.org");
  try {
    HttpServer server({host, 0}, [](const std::string&) { return std::nullopt; });
    FAIL("it listens on " << host);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    has(error.what(), "must be an address of the loopback interface");
  }
}
