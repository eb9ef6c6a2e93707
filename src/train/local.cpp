#include "train/local.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <thread>

#include "comm/observer.hpp"
#include "core/atomic_file.hpp"
#include "core/clock.hpp"
#include "core/log.hpp"
#include "core/process.hpp"
#include "core/stop.hpp"
#include "core/time.hpp"
#include "energy/live_gate.hpp"
#include "energy/site_windows.hpp"
#include "energy/units.hpp"
#include "report/progress.hpp"
#include "train/summary.hpp"

namespace spillway {
namespace {

constexpr double kTick_s = 0.05;
constexpr double kShow_s = 1;
// A job that fails is started again in its window, but not for ever.
constexpr int kMostFailures = 3;
constexpr double kRestartPause_s = 2;
// After SIGUSR1 a job may finish its merge and write its checkpoint; then SIGTERM, then SIGKILL.
constexpr double kPatience_s = 60;

// One site: its windows and its job.
class SiteJob {
 public:
  SiteJob(std::string name, const LocalSite& site, std::filesystem::path log)
      : name_(std::move(name)), site_(site), log_(std::move(log)) {
    if (has_live_signal(site.config)) {
      live_ = std::make_unique<LiveGate>(site.config);
      return;
    }
    if (site.config.signal.file.empty())
      fail(ExitCode::usage, "site {}: neither signal.file nor signal.provider is set", name_);
    SiteSignals signals = read_site_signals(site.config);
    windows_ = site_windows(signals, site.config.gate.min_length_s);
    signal_ = std::move(signals.gate);
  }

  // Starts, signals and reaps the job as its windows ask.
  void tick(const ClockSpec& clock, double suspend_lead_s, double start_lead_s) {
    const double now = clock.now_unix_s();
    if (live_) update_live_window(now);
    if (job_.status() || !started_) {
      reap(now);
      const Window* window = window_at_or_after(windows_, now + start_lead_s * clock.speed);
      if (window == nullptr || complete_ || failures_ >= kMostFailures || monotonic_s() < not_before_s_)
        return;
      const double usable_until = window->close_unix_s - suspend_lead_s * clock.speed;
      if (now + start_lead_s * clock.speed >= window->open_unix_s && now < usable_until) start(*window);
      return;
    }
    if (!job_.running()) return;
    const bool closes = live_ ? windows_.empty() : now >= closes_unix_s_ - suspend_lead_s * clock.speed;
    if (!told_ && closes) suspend();
    if (told_ && monotonic_s() - told_s_ > kPatience_s)
      job_.signal(monotonic_s() - told_s_ > kPatience_s + 10 ? SIGKILL : SIGTERM);
  }

  void suspend() {
    if (told_ || !running()) return;
    told_ = true;
    told_s_ = monotonic_s();
    job_.signal(SIGUSR1);
  }

  bool running() { return started_ && job_.running(); }
  bool complete() const { return complete_; }
  bool has_windows_after(double now) const {
    return (live_ || window_at_or_after(windows_, now) != nullptr) && failures_ < kMostFailures;
  }
  bool failed() const { return failures_ >= kMostFailures; }

  SiteProgress progress(double now, const nlohmann::json& members) {
    SiteProgress result;
    result.site = name_;
    if (live_) {
      if (const LiveValues values = live_->values_at(now); values.gate_unit == kIntensityUnit)
        result.intensity_g_per_kwh = values.gate;
    } else if (signal_.is_intensity()) {
      result.intensity_g_per_kwh = signal_.value_at(now);
    }
    const Window* window = window_at_or_after(windows_, now);
    if (live_)
      result.live_open = window != nullptr;
    else if (window != nullptr && window->open_unix_s <= now)
      result.window_left_s = window->close_unix_s - now;
    else if (window != nullptr)
      result.next_window_s = window->open_unix_s - now;
    const bool up = running();
    result.state = complete_ ? "complete" : failed() ? "failed" : up ? "starting" : "closed";
    const auto member = members.find(name_);
    if (up && member != members.end() && member->at("progress").is_object()) last_ = member->at("progress");
    if (up && last_.contains("state")) result.state = last_.at("state").get<std::string>();
    if (last_.contains("step")) result.step = last_.at("step").get<std::int64_t>();
    if (last_.contains("loss_nats")) result.loss_nats = last_.at("loss_nats").get<double>();
    if (up && last_.contains("tokens_per_s")) result.tokens_per_s = last_.at("tokens_per_s").get<double>();
    return result;
  }

 private:
  void start(const Window& window) {
    ProcessOptions options;
    options.arguments = {"mpirun",
                         "-n",
                         std::to_string(site_.config.site.ranks),
                         "--oversubscribe",
                         "--bind-to",
                         "none",
                         "--mca",
                         "mpi_yield_when_idle",
                         "1",
                         "--mca",
                         "btl",
                         "vader,self",
                         own_executable(),
                         "train"};
    if (geteuid() == 0) options.arguments.insert(options.arguments.begin() + 1, "--allow-run-as-root");
    options.arguments.insert(options.arguments.end(), site_.arguments.begin(), site_.arguments.end());
    options.output_file = log_.string();
    options.new_session = true;  // Ctrl-C is for this process, which then suspends the jobs in good order
    options.parent_death_signal = SIGTERM;
    job_ = Process(options);
    started_ = true;
    told_ = false;
    last_ = nlohmann::json::object();
    closes_unix_s_ = window.close_unix_s;
  }

  // A live window is open as long as nothing closes it.
  void update_live_window(double now) {
    windows_.clear();
    if (live_->open(now)) windows_.push_back({now, std::numeric_limits<double>::infinity()});
  }

  void reap(double now) {
    if (!started_ || !job_.status()) return;
    started_ = false;
    const int status = *job_.status();
    if (status == static_cast<int>(ExitCode::complete)) {
      complete_ = true;
    } else if (status != static_cast<int>(ExitCode::suspended)) {
      ++failures_;
      not_before_s_ = monotonic_s() + kRestartPause_s;
      log_warning("site {}: its job ended with status {} at {}; see {}", name_, status, format_utc(now),
                  log_.string());
    } else {
      failures_ = 0;
    }
  }

  std::string name_;
  LocalSite site_;
  std::filesystem::path log_;
  Signal signal_;                   // of the gate, known beforehand
  std::unique_ptr<LiveGate> live_;  // instead, where signals are live; then windows_ has the open one
  std::vector<Window> windows_;
  Process job_;
  bool started_ = false, told_ = false, complete_ = false;
  double closes_unix_s_ = 0, told_s_ = 0, not_before_s_ = 0;
  int failures_ = 0;
  nlohmann::json last_ = nlohmann::json::object();
};

// The hub's process and the stream of its status.
class HubLink {
 public:
  HubLink(const LocalRun& run, const std::filesystem::path& log)
      : observer_(parse_endpoint("federation.hub", run.config.federation.hub), "local",
                  read_key(run.config.federation.key_file)),
        log_(log) {
    ProcessOptions options;
    options.arguments = {own_executable(), "hub"};
    options.arguments.insert(options.arguments.end(), run.hub_arguments.begin(), run.hub_arguments.end());
    options.output_file = log.string();
    options.new_session = true;
    options.parent_death_signal = SIGTERM;
    process_ = Process(options);
  }

  // The newest status; null until the first has come.
  const nlohmann::json& status() const { return observer_.status(); }
  bool running() { return process_.running(); }
  const std::filesystem::path& log() const { return log_; }

  void read() { observer_.read(); }

  ClockSpec clock() const {
    const auto& clock = status().at("clock");
    return {clock.at("start_unix_s").get<double>(), clock.at("origin_unix_s").get<double>(),
            clock.at("speed").get<double>()};
  }

  void stop() {
    process_.signal(SIGTERM);
    if (!process_.wait(20)) log_warning("the hub did not stop and is killed; see {}", log_.string());
  }

 private:
  Observer observer_;
  std::filesystem::path log_;
  Process process_;
};

RunProgress progress_of(std::map<std::string, SiteJob>& jobs, const nlohmann::json& status, double now) {
  RunProgress progress;
  progress.now_unix_s = now;
  progress.blocks = status.at("blocks").get<std::int64_t>();
  progress.target = status.at("target").get<std::int64_t>();
  progress.version = status.at("version").get<std::int64_t>();
  for (auto& [name, job] : jobs) progress.sites.push_back(job.progress(now, status.at("members")));
  return progress;
}

bool any_running(std::map<std::string, SiteJob>& jobs) {
  bool any = false;
  for (auto& [name, job] : jobs) any = job.running() || any;
  return any;
}

// Until the run is complete, nothing is left to open, or a stop signal; returns whether it is complete.
bool follow(const LocalRun& run, HubLink& hub, std::map<std::string, SiteJob>& jobs) {
  ProgressDisplay display(stdout);
  double shown_s = 0;
  for (bool stopping = false;;) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kTick_s));
    hub.read();
    if (hub.status().is_null()) {
      if (!hub.running()) fail(ExitCode::io, "the hub did not start; see {}", hub.log().string());
      if (stop_signal() != 0) return false;
      continue;
    }
    const ClockSpec clock = hub.clock();
    const double now = clock.now_unix_s();
    stopping = stopping || stop_signal() != 0;
    bool open_later = false;
    for (auto& [name, job] : jobs) {
      if (stopping) job.suspend();
      if (!stopping || job.running())
        job.tick(clock, run.config.local.suspend_lead_s, run.config.local.start_lead_s);
      open_later = open_later || (!job.complete() && job.has_windows_after(now));
    }
    const bool complete = hub.status().at("complete").get<bool>();
    if (monotonic_s() - shown_s >= kShow_s) {
      shown_s = monotonic_s();
      display.show(progress_of(jobs, hub.status(), now));
    }
    if (!any_running(jobs) && (complete || stopping || !open_later)) {
      display.show(progress_of(jobs, hub.status(), now));
      return complete;
    }
    if (!hub.running() && !complete) fail(ExitCode::io, "the hub ended; see {}", hub.log().string());
  }
}

}  // namespace

ExitCode run_local(const LocalRun& run) {
  install_stop_handlers();
  keep_llvm_out_of_children();
  set_log_source("local");
  if (run.sites.empty())
    fail(ExitCode::usage, "local.sites is empty: name the sites, and give each a section [site.NAME]");
  const double start_s = monotonic_s();
  const auto folder = std::filesystem::path(run.config.run.dir);
  std::error_code error;
  std::filesystem::create_directories(folder / "logs", error);
  if (error) fail(ExitCode::io, "{}: cannot be created: {}", (folder / "logs").string(), error.message());
  std::map<std::string, SiteJob> jobs;
  for (const auto& [name, site] : run.sites)
    jobs.try_emplace(name, name, site, folder / "logs" / (name + ".log"));
  HubLink hub(run, folder / "logs" / "hub.log");
  const bool complete = follow(run, hub, jobs);
  hub.stop();
  std::map<std::string, Config> configs;
  for (const auto& [name, site] : run.sites) configs[name] = site.config;
  const nlohmann::json summary = summarize_run(run.config, configs, monotonic_s() - start_s);
  const std::string text = summary.dump(2) + "\n";
  write_file_atomically(folder / "summary.json", {std::as_bytes(std::span(text))});
  fmt::print("\n{}\nsummary: {}\n", summary_table(summary), (folder / "summary.json").string());
  for (auto& [name, job] : jobs)
    if (job.failed())
      fail(ExitCode::io, "site {} failed {} times; see {}", name, kMostFailures,
           (folder / "logs" / (name + ".log")).string());
  return complete ? ExitCode::complete : ExitCode::suspended;
}

}  // namespace spillway
