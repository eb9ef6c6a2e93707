#include "energy/live_signal.hpp"

#include <algorithm>
#include <chrono>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/plan.hpp"
#include "energy/provider_parts.hpp"

namespace spillway {
namespace {

constexpr double kKeptS = 2 * 86400;

GateThresholds live_thresholds(const Config& config) {
  if (!config.gate.percentile) return make_thresholds(config.gate, {});
  if (config.signal.file.empty())
    fail(ExitCode::usage, "gate.percentile of a live signal needs its history in signal.file");
  return make_thresholds(config.gate, read_signal(config.signal));
}

const SignalConfig& checked(const Config& config) {
  if (config.clock.mode != "real")
    fail(ExitCode::usage, "signal.provider: a live signal needs clock.mode = real, not {}",
         config.clock.mode);
  if (!config.average.file.empty() || !config.excess.file.empty())
    fail(ExitCode::usage, "signal.provider: [average] and [excess] go with signal.file only");
  return config.signal;
}

}  // namespace

std::optional<double> held_value(const Signal& signal, double now_unix_s, double hold_s) {
  const auto after = std::upper_bound(signal.times_unix_s.begin(), signal.times_unix_s.end(), now_unix_s);
  if (after == signal.times_unix_s.begin()) return std::nullopt;
  const auto index = static_cast<std::size_t>(after - signal.times_unix_s.begin()) - 1;
  if (now_unix_s >= signal.held_until(index) + hold_s) return std::nullopt;
  return signal.values[index];
}

LiveSignal::LiveSignal(const SignalConfig& config, HttpOptions options) : config_(config) {
  if (!(config.poll_s > 0)) fail(ExitCode::usage, "signal.poll = 0s: must be more than 0");
  options.stop = &stop_;
  provider_ = make_provider(config, options);
  ask();
  thread_ = std::thread([this] { watch(); });
}

LiveSignal::~LiveSignal() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
  thread_.join();
}

void LiveSignal::ask() {
  std::string trouble;
  try {
    const double now = now_unix_s();
    const Signal news = provider_->live(now);
    const std::lock_guard lock(mutex_);
    signal_ = signal_.times_unix_s.empty() ? news : joined(signal_, news);
    // A file may hold years; what is long past is of no use here.
    if (signal_.start_unix_s() < now - kKeptS && signal_.end_unix_s() > now - kKeptS)
      signal_ = signal_from(signal_, now - kKeptS);
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (stop_) return;
  if (!trouble.empty() && trouble_.empty())
    log_warning("signal: {}; the last value counts for {}, then the site is closed", trouble,
                format_duration(config_.hold_s));
  if (trouble.empty() && !trouble_.empty()) log_info("signal: there is an answer again");
  trouble_ = trouble;
}

void LiveSignal::watch() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      woken_.wait_for(lock, std::chrono::duration<double>(config_.poll_s), [this] { return stop_.load(); });
      if (stop_) return;
    }
    ask();
  }
}

std::optional<double> LiveSignal::value_at(double at_unix_s) const {
  const std::lock_guard lock(mutex_);
  return held_value(signal_, at_unix_s, config_.hold_s);
}

Signal LiveSignal::snapshot() const {
  const std::lock_guard lock(mutex_);
  return signal_;
}

LiveGate::LiveGate(const Config& config) : signal_(checked(config), {}), gate_(live_thresholds(config)) {}

bool LiveGate::open(double now_unix_s) {
  const bool was_open = open_;
  open_ = gate_.update(now_unix_s, signal_.value_at(now_unix_s)) != GateState::idle;
  if (open_ && !was_open)
    windows_.push_back({now_unix_s, now_unix_s});
  else if (was_open)
    windows_.back().close_unix_s = now_unix_s;
  return open_;
}

}  // namespace spillway
