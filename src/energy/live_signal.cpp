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

}  // namespace

std::optional<double> held_value(const Signal& signal, double now_unix_s, double hold_s) {
  const auto after = std::upper_bound(signal.times_unix_s.begin(), signal.times_unix_s.end(), now_unix_s);
  if (after == signal.times_unix_s.begin()) return std::nullopt;
  const auto index = static_cast<std::size_t>(after - signal.times_unix_s.begin()) - 1;
  if (now_unix_s >= signal.held_until(index) + hold_s) return std::nullopt;
  return signal.values[index];
}

LiveSignal::LiveSignal(const SignalConfig& config, HttpOptions options, std::string unit)
    : config_(config), unit_(std::move(unit)) {
  if (!(config.poll_s > 0)) fail(ExitCode::usage, "{}.poll = 0s: must be more than 0", config.section);
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

void LiveSignal::take(const Signal& news, double now) {
  if (unit_.empty()) unit_ = news.unit;
  if (news.unit != unit_)
    fail(ExitCode::bad_data, "the values are in {}, not in {}; {}.unit may change that", news.unit, unit_,
         config_.section);
  const std::lock_guard lock(mutex_);
  signal_ = signal_.times_unix_s.empty() ? news : joined(signal_, news);
  // A file may hold years; what is long past is of no use here.
  if (signal_.start_unix_s() < now - kKeptS && signal_.end_unix_s() > now - kKeptS)
    signal_ = signal_from(signal_, now - kKeptS);
}

void LiveSignal::ask() {
  std::string trouble;
  try {
    const double now = now_unix_s();
    take(provider_->live(now), now);
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (stop_) return;
  if (!trouble.empty() && trouble_.empty())
    log_warning("{}: {}; the last value counts for {}, then it is unknown", config_.section, trouble,
                format_duration(config_.hold_s));
  if (trouble.empty() && !trouble_.empty()) log_info("{}: there is an answer again", config_.section);
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

Feed::Feed(const SignalConfig& config, const std::string& unit) {
  if (config.is_live()) {
    live_ = std::make_unique<LiveSignal>(config, HttpOptions{}, unit);
    return;
  }
  known_ = read_signal(config);
  if (!unit.empty() && known_.unit != unit)
    fail(ExitCode::usage, "{0}.file is in {1}, not in {2}; {0}.unit changes that", config.section,
         known_.unit, unit);
}

std::optional<double> Feed::value_at(double at_unix_s) const {
  return live_ ? live_->value_at(at_unix_s) : known_.value_at(at_unix_s);
}

}  // namespace spillway
