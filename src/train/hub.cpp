#include "train/hub.hpp"

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "comm/hub_server.hpp"
#include "comm/name_server.hpp"
#include "core/log.hpp"
#include "core/process.hpp"
#include "core/stop.hpp"
#include "core/time.hpp"
#include "train/coordinator.hpp"
#include "train/journal.hpp"
#include "train/setup.hpp"

namespace spillway {
namespace {

constexpr double kPoll_s = 0.05;

CoordinatorOptions coordinator_options(const Config& config, const RunSetup& setup) {
  CoordinatorOptions options;
  options.run = setup.digest;
  options.steps = config.train.steps;
  options.round_length_s = config.federation.round_length_s;
  options.round_deadline_s = config.federation.round_deadline_s;
  options.lost_lease_s = 2 * config.federation.lost_after_s;
  options.average_last = config.federation.average_last;
  return options;
}

// The clock of the run is fixed by the first start of its hub and kept in the journal.
ClockSpec clock_of_run(const Config& config, const Journal& journal) {
  for (const auto& entry : journal.entries())
    if (entry.value("type", "") == "start" && entry.contains("clock")) {
      const auto& clock = entry.at("clock");
      return {clock.at("start_unix_s").get<double>(), clock.at("origin_unix_s").get<double>(),
              clock.at("speed").get<double>()};
    }
  return make_clock(config.clock);
}

CoordinatorHistory history_of_run(const Config& config, const Journal& journal, const std::string& digest) {
  CoordinatorHistory history(config.train.steps);
  for (const auto& entry : journal.entries()) {
    if (entry.value("type", "") == "start" && entry.value("run", "") != digest)
      fail(ExitCode::usage,
           "run.dir {}: its journal belongs to a run of another configuration; choose another run.dir",
           config.run.dir);
    history.apply(entry);
  }
  return history;
}

class HubProcess final : private HubHandler, private CoordinatorHost {
 public:
  HubProcess(const Config& config, const HubOptions& options)
      : config_(config),
        vault_command_(options.vault_command),
        setup_(make_setup(config)),
        folder_(make_folder(config)),
        journal_(folder_ / "journal.jsonl"),
        clock_(clock_of_run(config, journal_)),
        coordinator_(coordinator_options(config, setup_), history_of_run(config, journal_, setup_.digest),
                     clock_, *this),
        server_(parse_endpoint("federation.hub", options.bind.empty() ? config.federation.hub : options.bind),
                config.federation.lost_after_s, *this) {
    journal_.append({{"type", "start"},
                     {"run", setup_.digest},
                     {"clock",
                      {{"start_unix_s", clock_.start_unix_s},
                       {"origin_unix_s", clock_.origin_unix_s},
                       {"speed", clock_.speed}}}});
  }

  ExitCode run() {
    const auto& history = coordinator_.history();
    log_info("hub on port {}: model version {}, {} of {} steps merged", server_.port(),
             history.committed.version, history.committed.blocks, config_.train.steps);
    double complete_since_s = 0;
    while (stop_signal() == 0) {
      tend_vault();
      server_.run_once(kPoll_s);
      if (!coordinator_.complete()) continue;
      // Stay a little, so that every site learns of the end and fetches the final model.
      constexpr double farewell_s = 3;
      if (complete_since_s == 0) complete_since_s = monotonic_s();
      if (monotonic_s() - complete_since_s > farewell_s) break;
    }
    server_.flush(1);
    vault_.signal(SIGTERM);
    constexpr double vault_patience_s = 10;
    if (!vault_.wait(vault_patience_s))
      log_warning("the vault did not stop within {} s and is killed", vault_patience_s);
    log_info("hub ends: model version {}, {} of {} steps merged", coordinator_.committed().version,
             coordinator_.committed().blocks, config_.train.steps);
    return coordinator_.complete() ? ExitCode::complete : ExitCode::suspended;
  }

 private:
  static std::filesystem::path make_folder(const Config& config) {
    const auto folder = std::filesystem::path(config.run.dir) / "hub";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) fail(ExitCode::io, "{}: cannot be created: {}", folder.string(), error.message());
    return folder;
  }

  // Starts the vault, and starts it again where it has ended, at growing intervals.
  void tend_vault() {
    if (vault_command_.empty() || vault_.running() || monotonic_s() < next_vault_s_) return;
    if (vault_.status()) log_warning("the vault ended with status {}: it is started again", *vault_.status());
    ProcessOptions options;
    options.arguments = {own_executable()};
    options.arguments.insert(options.arguments.end(), vault_command_.begin(), vault_command_.end());
    options.parent_death_signal = SIGTERM;
    options.new_session = true;
    vault_ = Process(options);
    vault_pause_s_ = std::min(2 * vault_pause_s_, 30.0);
    next_vault_s_ = monotonic_s() + vault_pause_s_;
  }

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
    if (name_server_ && !name_server_->running()) {
      name_server_.reset();
      coordinator_.name_server_died(now_s);
    }
    coordinator_.tick(now_s);
  }
  nlohmann::json snapshot(double now_s) override { return coordinator_.snapshot(now_s); }

  // CoordinatorHost
  void send(const std::string& member, const Message& message) override { server_.send(member, message); }
  std::string start_name_server(std::int64_t epoch) override {
    try {
      const auto folder =
          std::filesystem::temp_directory_path() / fmt::format("spillway_hub_{}_{}", getpid(), epoch);
      name_server_ = std::make_unique<NameServer>(folder, config_.federation.interface);
      return name_server_->uri();
    } catch (const Error& error) {
      if (error.code() == ExitCode::usage) throw;
      log_error("{}", error.what());
      return "";
    }
  }
  void stop_name_server() override { name_server_.reset(); }
  void append_journal(const nlohmann::json& entry) override { journal_.append(entry); }

  Config config_;
  std::vector<std::string> vault_command_;
  RunSetup setup_;
  std::filesystem::path folder_;
  Journal journal_;
  ClockSpec clock_;
  Coordinator coordinator_;
  HubServer server_;
  std::unique_ptr<NameServer> name_server_;
  Process vault_;
  double next_vault_s_ = 0, vault_pause_s_ = 0.5;
};

}  // namespace

ExitCode run_hub(const Config& config, const HubOptions& options) {
  install_stop_handlers();
  set_log_source("hub");
  HubProcess hub(config, options);
  return hub.run();
}

}  // namespace spillway
