#include "train/site_context.hpp"

#include "core/log.hpp"
#include "core/time.hpp"
#include "train/setup.hpp"

namespace spillway {

namespace {

std::optional<Signal> read_if_named(const SignalConfig& config) {
  return config.file.empty() ? std::nullopt : std::optional(read_signal(config));
}

}  // namespace

SiteContext::SiteContext(const Config& config)
    : config_(config),
      clock_(make_clock(config.clock)),
      signal_(read_if_named(config.signal)),
      emissions_(read_if_named(config.emissions)),
      average_(read_if_named(config.average)) {
  if (signal_)
    windows_ = find_windows(*signal_, make_thresholds(config.gate, *signal_), config.gate.min_length_s);
  booked_until_unix_s_ = now_unix_s();
}

void SiteContext::start_metering(NodeMeter meter, const EnergyLedger& ledger, bool clock_known) {
  meter_ = std::move(meter.meter);
  other_nodes_ = meter.other_nodes;
  source_ = meter_->source();
  ledger_ = ledger;
  clock_known_ = clock_known;
  booked_until_unix_s_ = now_unix_s() - (monotonic_s() - meter.since_s) * clock_.speed;
}

Grid SiteContext::grid() const {
  const Signal* marginal = emissions_ ? &*emissions_ : signal_ ? &*signal_ : nullptr;
  return {marginal, average_ ? &*average_ : nullptr, &windows_};
}

void SiteContext::set_clock(const ClockSpec& clock) {
  // The time already booked was measured on the other clock; only its length carries over.
  const double unbooked_s = (now_unix_s() - booked_until_unix_s_) / clock_.speed;
  clock_ = clock;
  clock_known_ = true;
  booked_until_unix_s_ = now_unix_s() - unbooked_s * clock_.speed;
}

bool SiteContext::window_open() const {
  if (!signal_) return true;
  const Window* window = window_at_or_after(windows_, now_unix_s());
  return window != nullptr && window->open_unix_s <= now_unix_s();
}

std::optional<double> SiteContext::window_left_s() const {
  if (!signal_ || !window_open()) return std::nullopt;
  return window_at_or_after(windows_, now_unix_s())->close_unix_s - now_unix_s();
}

std::optional<const Window*> SiteContext::next_window() const {
  if (!signal_) return std::nullopt;
  return window_at_or_after(windows_, now_unix_s());
}

std::optional<double> SiteContext::intensity_g_per_kwh() const {
  return signal_ ? signal_->value_at(now_unix_s()) : std::nullopt;
}

void SiteContext::enter(Phase phase) {
  if (!clock_known_) return;
  energy();
  phase_ = phase;
}

const EnergyLedger& SiteContext::energy() {
  const double now = now_unix_s();
  if (meter_ && clock_known_ && now > booked_until_unix_s_) {
    const EnergySample sample = meter_->sample(phase_, now - booked_until_unix_s_);
    ledger_.add(sample.flow(phase_, booked_until_unix_s_, now), grid());
    if (other_nodes_) since_remote_.push_back({phase_, booked_until_unix_s_, now});
    booked_until_unix_s_ = now;
  }
  return ledger_;
}

void SiteContext::add_remote(const RemoteEnergy& remote) {
  energy();
  for (std::size_t i = 0; i < kComponents; ++i) {
    pending_.measured_j[i] += remote.measured_j[i];
    pending_.modelled_j[i] += remote.modelled_j[i];
  }
  pending_.unmetered_nodes = remote.unmetered_nodes;
  if (since_remote_.empty()) return;
  double all_s = 0;
  for (const Stretch& stretch : since_remote_) all_s += stretch.to_unix_s - stretch.from_unix_s;
  for (const bool measured : {true, false}) {
    EnergyFlow flow;
    flow.measured.fill(measured);
    flow.known = measured || pending_.unmetered_nodes == 0 || source_ == "modelled";
    for (std::size_t i = 0; i < kComponents; ++i)
      flow.power_w[i] = (measured ? pending_.measured_j[i] : pending_.modelled_j[i]) / all_s;
    for (const Stretch& stretch : since_remote_) {
      flow.phase = stretch.phase;
      flow.from_unix_s = stretch.from_unix_s;
      flow.to_unix_s = stretch.to_unix_s;
      ledger_.add(flow, grid());
    }
  }
  since_remote_.clear();
  pending_ = {};
}

}  // namespace spillway
