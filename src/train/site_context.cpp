#include "train/site_context.hpp"

#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/site_windows.hpp"
#include "energy/units.hpp"
#include "train/setup.hpp"

namespace spillway {

namespace {

std::optional<Signal> read_if_named(const SignalConfig& config) {
  return config.file.empty() ? std::nullopt : std::optional(read_signal(config));
}

PowerBalance declared_balance(const SiteConfig& site) {
  return PowerBalance(site.train_power_w * site.pue, site.idle_power_w * site.pue);
}

}  // namespace

SiteContext::SiteContext(const Config& config)
    : config_(config),
      clock_(make_clock(config.clock)),
      balance_(declared_balance(site_of_job(config.site))) {
  if (has_live_signal(config)) {
    live_ = std::make_unique<LiveGate>(config);
  } else {
    emissions_ = read_if_named(config.emissions);
    average_ = read_if_named(config.average);
    if (!config.signal.file.empty()) {
      SiteSignals signals = read_site_signals(config);
      windows_ = site_windows(signals, config.gate.min_length_s);
      signal_ = std::move(signals.gate);
      excess_ = std::move(signals.excess);
    } else {
      site_limits(config);
      if (!config.excess.file.empty()) excess_ = read_signal(config.excess);
    }
  }
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

void SiteContext::set_clock(const ClockSpec& clock) {
  // The time already booked was measured on the other clock; only its length carries over.
  const double unbooked_s = (now_unix_s() - booked_until_unix_s_) / clock_.speed;
  clock_ = clock;
  clock_known_ = true;
  booked_until_unix_s_ = now_unix_s() - unbooked_s * clock_.speed;
}

bool SiteContext::window_open() const {
  if (live_) return live_->open(now_unix_s());
  if (!signal_) return true;
  const Window* window = window_at_or_after(windows_, now_unix_s());
  return window != nullptr && window->open_unix_s <= now_unix_s();
}

bool SiteContext::may_train() const {
  if (config_.gate.enforce && !window_open()) return false;
  if (!config_.site.power_capped()) return true;
  const auto cap_w = power_cap_w();
  return cap_w && *cap_w > config_.site.idle_power_w * config_.site.pue;
}

std::optional<double> SiteContext::power_cap_w() const {
  if (!config_.site.power_cap_excess) return config_.site.power_cap_w;
  const double now = now_unix_s();
  const auto excess_mw = live_     ? live_->values_at(now).excess
                         : excess_ ? excess_->value_at(now)
                                   : std::nullopt;
  return excess_mw ? std::optional(*excess_mw * 1e6) : std::nullopt;
}

double SiteContext::pause_ratio() const {
  const auto cap_w = config_.site.power_capped() ? power_cap_w() : std::nullopt;
  return cap_w ? balance_.pause_ratio(*cap_w) : 0;
}

// Pauses between micro-batches are booked as idle.
void SiteContext::weigh(Phase phase, const EnergyFlow& flow, double seconds) {
  if (phase != Phase::solo && phase != Phase::federated && phase != Phase::idle) return;
  double power_w = 0;
  for (const double part : flow.power_w) power_w += part;
  balance_.add(phase == Phase::idle, power_w * (flow.to_unix_s - flow.from_unix_s), seconds);
}

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
  const double now = now_unix_s();
  if (live_) {
    const LiveValues values = live_->values_at(now);
    if (values.emissions) return values.emissions;
    return values.gate_unit == kIntensityUnit ? values.gate : std::nullopt;
  }
  const Signal* signal = emissions_ ? &*emissions_ : signal_ && signal_->is_intensity() ? &*signal_ : nullptr;
  return signal != nullptr ? signal->value_at(now) : std::nullopt;
}

std::optional<LiveValues> SiteContext::live_values() const {
  return live_ ? std::optional(live_->values_at(now_unix_s())) : std::nullopt;
}

void SiteContext::enter(Phase phase) {
  if (!clock_known_) return;
  energy();
  phase_ = phase;
}

void SiteContext::book(const EnergyFlow& flow) {
  const auto pointer = [](const std::optional<Signal>& signal) { return signal ? &*signal : nullptr; };
  if (live_) {
    live_->open(flow.to_unix_s);  // the window goes on until now
    const Signal gate = live_->signal();
    const auto emissions = live_->emissions(), average = live_->average();
    ledger_.add(flow, {emissions ? &*emissions : &gate, pointer(average), &live_->windows()});
    return;
  }
  ledger_.add(flow, {pointer(emissions_ ? emissions_ : signal_), pointer(average_), &windows_});
}

const EnergyLedger& SiteContext::energy() {
  const double now = now_unix_s();
  if (meter_ && clock_known_ && now > booked_until_unix_s_) {
    const EnergySample sample = meter_->sample(phase_, now - booked_until_unix_s_);
    const EnergyFlow flow = sample.flow(phase_, booked_until_unix_s_, now);
    book(flow);
    weigh(phase_, flow, now - booked_until_unix_s_);
    if (other_nodes_) since_remote_.push_back({phase_, booked_until_unix_s_, now});
    booked_until_unix_s_ = now;
  }
  return ledger_;
}

double SiteContext::energy_until_unix_s() const {
  return meter_ && clock_known_ ? booked_until_unix_s_ : now_unix_s();
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
      book(flow);
      weigh(stretch.phase, flow, 0);
    }
  }
  since_remote_.clear();
  pending_ = {};
}

}  // namespace spillway
