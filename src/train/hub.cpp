#include "train/hub.hpp"

#include <algorithm>
#include <csignal>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>

#include "comm/http_server.hpp"
#include "comm/hub_server.hpp"
#include "comm/mpi.hpp"
#include "comm/name_server.hpp"
#include "comm/wire.hpp"
#include "core/log.hpp"
#include "core/process.hpp"
#include "core/stop.hpp"
#include "report/hub_metrics.hpp"
#include "report/hub_page.hpp"
#include "train/coordinator.hpp"
#include "train/journal.hpp"
#include "train/setup.hpp"

namespace spillway {
namespace {

constexpr double kPoll_s = 0.05;
// After the end of the run: time for sites that are about to connect, and the longest wait for those connected.
constexpr double kFarewell_s = 3, kLongestFarewell_s = 60;
constexpr double kVaultPatience_s = 10;
constexpr std::size_t kRoundsShown = 1000;
constexpr int kRefresh_s = 5;  // of the status page
constexpr double kFirstVaultPause_s = 0.5, kLongestVaultPause_s = 30;

CoordinatorOptions coordinator_options(const Config& config, const RunSetup& setup) {
  CoordinatorOptions options;
  options.run = setup.digest;
  options.data = setup.data_digest;
  options.delta_limit = config.federation.delta_limit;
  options.tokens_per_step = config.train.tokens_per_step;
  options.round_length_s = config.federation.round_length_s;
  options.round_deadline_s = config.federation.round_deadline_s;
  options.lost_lease_s = 2 * config.federation.lost_after_s;
  options.average_last = config.federation.average_last;
  parse_wire_format(config.federation.compression);  // refuses an unknown name
  options.wire = config.federation.compression;
  if (config.federation.streams < 1 || config.federation.streams > kMaxStreams)
    fail(ExitCode::usage, "--federation.streams {}: must be from 1 to {}", config.federation.streams,
         kMaxStreams);
  options.streams = config.federation.streams;
  return options;
}

RunHistory history_of_run(const Config& config, const Journal& journal, const std::string& digest) {
  RunHistory history(config.train.steps);
  for (const auto& entry : journal.entries()) {
    if (type_of_entry(entry) == "start" && start_entry(entry).run != digest)
      fail(ExitCode::usage,
           "run.dir {}: its journal belongs to a run of another configuration; choose another run.dir",
           config.run.dir);
    history.apply(entry);
  }
  return history;
}

// The clock of the run is fixed by the first start of its hub and kept in the journal.
ClockSpec clock_of_run(const Config& config, const RunHistory& history) {
  return history.first_start ? history.first_start->clock : make_clock(config.clock);
}

std::filesystem::path make_folder(const Config& config) {
  const auto folder = std::filesystem::path(config.run.dir) / "hub";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ExitCode::io, "{}: cannot be created: {}", folder.string(), error.message());
  return folder;
}

// The vault as a child process, started again where it has ended, at growing intervals.
class VaultProcess {
 public:
  explicit VaultProcess(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {}

  void tend() {
    if (arguments_.empty() || process_.running()) return;
    const double now_s = monotonic_s();
    if (process_.status() && !reported_) {
      reported_ = true;
      // One that has served for long starts anew with short pauses.
      if (now_s - started_s_ > kLongestVaultPause_s) pause_s_ = kFirstVaultPause_s;
      log_warning("the vault ended with status {}; it is started again in {} s", *process_.status(),
                  pause_s_);
      next_s_ = now_s + pause_s_;
      pause_s_ = std::min(2 * pause_s_, kLongestVaultPause_s);
    }
    if (now_s < next_s_) return;
    ProcessOptions options;
    options.arguments = arguments_;
    options.arguments.insert(options.arguments.begin(), own_executable());
    options.parent_death_signal = SIGTERM;
    options.new_session = true;
    process_ = Process(options);
    started_s_ = now_s;
    reported_ = false;
  }

  void stop() {
    process_.signal(SIGTERM);
    if (!process_.wait(kVaultPatience_s))
      log_warning("the vault did not stop within {} s and is killed", kVaultPatience_s);
  }

 private:
  std::vector<std::string> arguments_;
  Process process_;
  double started_s_ = 0, next_s_ = 0, pause_s_ = kFirstVaultPause_s;
  bool reported_ = false;
};

class HubProcess final : private HubHandler, private CoordinatorHost {
 public:
  HubProcess(const Config& config, const HubOptions& options)
      : config_(config),
        setup_(make_setup(config)),
        journal_(make_folder(config) / "journal.jsonl"),
        history_(history_of_run(config, journal_, setup_.digest)),
        clock_(clock_of_run(config, history_)),
        coordinator_(coordinator_options(config, setup_), history_, clock_, *this),
        server_(parse_endpoint("--bind", options.bind.empty() ? config.federation.hub : options.bind),
                config.federation.lost_after_s, *this, read_key(config.federation.key_file)),
        vault_(options.vault_arguments),
        rounds_file_(make_folder(config) / "rounds.jsonl") {
    if (!config.federation.metrics.empty())
      http_.emplace(parse_endpoint("federation.metrics", config.federation.metrics),
                    [this](const std::string& path) { return page(path); });
    // Nothing has been said to anybody yet: the numbers of this start are its own from here.
    journal_.append(
        to_json(StartEntry{setup_.digest, config.train.steps, config.train.tokens_per_step, clock_}));
  }

  ExitCode run() {
    log_info("hub on port {}: model version {}, {} of {} steps merged", server_.port(),
             coordinator_.committed().version, coordinator_.committed().blocks, config_.train.steps);
    if (http_) log_info("metrics and status page on http://127.0.0.1:{}/", http_->port());
    std::optional<double> complete_since_s;
    while (stop_signal() == 0) {
      vault_.tend();
      server_.run_once(kPoll_s);
      if (http_) http_->step();
      if (!coordinator_.complete()) continue;
      if (!complete_since_s) complete_since_s = monotonic_s();
      const double age_s = monotonic_s() - *complete_since_s;
      if (age_s > kLongestFarewell_s || (age_s > kFarewell_s && coordinator_.everybody_gone())) break;
    }
    coordinator_.farewell();
    server_.flush(1);
    vault_.stop();
    log_info("hub ends: model version {}, {} of {} steps merged", coordinator_.committed().version,
             coordinator_.committed().blocks, config_.train.steps);
    return coordinator_.complete() ? ExitCode::complete : ExitCode::suspended;
  }

 private:
  // HubHandler
  std::optional<Refuse> connected(double now_s, const Hello& hello) override {
    return coordinator_.connected(now_s, hello);
  }
  void received(double now_s, const std::string& member, const Message& message) override {
    coordinator_.received(now_s, member, message);
  }
  void disconnected(double now_s, const std::string& member, const std::string& reason) override {
    coordinator_.disconnected(now_s, member, reason);
  }
  void tick(double now_s) override {
    watch_name_server(now_s);
    coordinator_.tick(now_s);
  }
  nlohmann::json snapshot(double now_s) override { return coordinator_.snapshot(now_s); }

  // CoordinatorHost
  void send(const std::string& member, const Message& message) override { server_.send(member, message); }
  void start_name_server(std::int64_t) override {
    name_server_ = std::make_unique<NameServer>(config_.federation.interface);
    name_server_reported_ = false;
  }
  void stop_name_server() override { name_server_.reset(); }
  void append_journal(const nlohmann::json& entry) override { journal_.append(entry); }
  double clock_unix_s() const override { return clock_.now_unix_s(); }
  void record_round(const nlohmann::json& round) override {
    rounds_.push_back(round);
    if (rounds_.size() > kRoundsShown) rounds_.pop_front();
    std::ofstream(rounds_file_, std::ios::app) << round.dump() << "\n";
  }

  std::optional<HttpPage> page(const std::string& path) {
    const nlohmann::json status = coordinator_.snapshot(monotonic_s());
    if (path == "/") return HttpPage{"text/html; charset=utf-8", hub_page(status, rounds_), kRefresh_s};
    if (path == "/metrics")
      return HttpPage{"text/plain; version=0.0.4; charset=utf-8", hub_metrics(status, rounds_), 0};
    if (path == "/status.json") return HttpPage{"application/json", status.dump(2) + "\n", 0};
    return std::nullopt;
  }

  void watch_name_server(double now_s) {
    if (!name_server_) return;
    if (!name_server_->running()) {
      const std::string words = name_server_->last_words();
      const std::string reason = fmt::format("ompi-server ended with status {}{}{}", name_server_->status(),
                                             words.empty() ? "" : ": ", words);
      name_server_.reset();
      coordinator_.name_server_died(now_s, reason);
    } else if (const auto uri = name_server_reported_ ? std::nullopt : name_server_->uri()) {
      name_server_reported_ = true;
      coordinator_.name_server_ready(now_s, *uri);
    }
  }

  Config config_;
  RunSetup setup_;
  Journal journal_;
  RunHistory history_;
  ClockSpec clock_;
  Coordinator coordinator_;
  HubServer server_;
  VaultProcess vault_;
  std::filesystem::path rounds_file_;
  std::deque<nlohmann::json> rounds_;  // of this start, newest last
  std::optional<HttpServer> http_;
  std::unique_ptr<NameServer> name_server_;
  bool name_server_reported_ = false;
};

}  // namespace

ExitCode run_hub(const Config& config, const HubOptions& options) {
  require_inter_site_mpi();
  install_stop_handlers();
  set_log_source("hub");
  SessionDirectory::sweep();
  HubProcess hub(config, options);
  return hub.run();
}

}  // namespace spillway
