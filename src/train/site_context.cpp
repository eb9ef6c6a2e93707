#include "train/site_context.hpp"

#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/site_windows.hpp"
#include "train/setup.hpp"

namespace spillway {

SiteContext::SiteContext(const Config& config, EnergyLedger ledger)
    : config_(config), clock_(make_clock(config.clock)), ledger_(ledger) {
  if (!config.signal.provider.empty()) {
    live_ = std::make_unique<LiveGate>(config);
  } else if (!config.signal.file.empty()) {
    SiteSignals signals = read_site_signals(config);
    windows_ = site_windows(signals, config.gate.min_length_s);
    signal_ = std::move(signals.gate);
  }
  meter_ = make_meter(config.site, config.clock.mode == "real");
  source_ = meter_->source();
  booked_until_unix_s_ = now_unix_s();
}

void SiteContext::set_clock(const ClockSpec& clock) {
  // The time already booked was measured on the other clock; only its length carries over.
  const double unbooked_s = (now_unix_s() - booked_until_unix_s_) / clock_.speed;
  clock_ = clock;
  booked_until_unix_s_ = now_unix_s() - unbooked_s * clock_.speed;
}

bool SiteContext::window_open() const {
  if (live_) return live_->open(now_unix_s());
  if (!signal_) return true;
  const Window* window = window_at_or_after(windows_, now_unix_s());
  return window != nullptr && window->open_unix_s <= now_unix_s();
}

bool SiteContext::may_train() const { return !config_.gate.enforce || window_open(); }

std::optional<double> SiteContext::window_left_s() const {
  if (!signal_) return std::nullopt;
  const double now = now_unix_s();
  const Window* window = window_at_or_after(windows_, now);
  if (window == nullptr || window->open_unix_s > now) return std::nullopt;
  return window->close_unix_s - now;
}

std::optional<const Window*> SiteContext::next_window() const {
  if (!signal_) return std::nullopt;
  return window_at_or_after(windows_, now_unix_s());
}

std::optional<double> SiteContext::intensity_g_per_kwh() const {
  if (live_ && live_->snapshot().is_intensity()) return live_->value_at(now_unix_s());
  return signal_ ? signal_->value_at(now_unix_s()) : std::nullopt;
}

void SiteContext::enter(Phase phase) {
  energy();
  phase_ = phase;
}

void SiteContext::book(double joules, double from_unix_s, double to_unix_s) {
  if (live_) {
    live_->open(to_unix_s);  // the window goes on until now
    const Signal so_far = live_->snapshot();
    ledger_.add(phase_, joules, from_unix_s, to_unix_s, &so_far, live_->windows());
    return;
  }
  ledger_.add(phase_, joules, from_unix_s, to_unix_s, signal_ ? &*signal_ : nullptr, windows_);
}

const EnergyLedger& SiteContext::energy() {
  const double now = now_unix_s();
  const double seconds = now - booked_until_unix_s_;
  if (seconds > 0) {
    const double joules = meter_->joules_since_last(phase_, seconds);
    book(joules, booked_until_unix_s_, now);
    booked_until_unix_s_ = now;
  }
  return ledger_;
}

}  // namespace spillway
