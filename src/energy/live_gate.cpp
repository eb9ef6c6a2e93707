#include "energy/live_gate.hpp"

#include "core/error.hpp"
#include "energy/units.hpp"

namespace spillway {
namespace {

std::unique_ptr<Feed> feed_if_set(const SignalConfig& config, const char* unit) {
  return config.is_set() ? std::make_unique<Feed>(config, unit) : nullptr;
}

std::optional<double> value_of(const std::unique_ptr<Feed>& feed, double at_unix_s) {
  return feed ? feed->value_at(at_unix_s) : std::nullopt;
}

}  // namespace

GateThresholds live_thresholds(const Config& config) {
  if (!config.gate.percentile) return make_thresholds(config.gate, {});
  if (config.signal.file.empty())
    fail(ExitCode::usage, "gate.percentile of a live signal needs its history in signal.file");
  return make_thresholds(config.gate, read_signal(config.signal));
}

bool has_live_signal(const Config& config) {
  return config.signal.is_live() || config.emissions.is_live() || config.average.is_live() ||
         config.excess.is_live();
}

LiveGate::LiveGate(const Config& config) {
  if (config.clock.mode != "real")
    fail(ExitCode::usage, "signal.provider: a live signal needs clock.mode = real, not {}",
         config.clock.mode);
  if (!config.signal.is_set())
    fail(ExitCode::usage, "site {}: live signals beside it need signal.file or signal.provider",
         config.site.name);
  limits_ = site_limits(config);
  GateThresholds thresholds = live_thresholds(config);
  grace_s_ = std::exchange(thresholds.grace_s, 0);
  gate_.emplace(thresholds);
  gate_feed_ = std::make_unique<Feed>(config.signal);
  emissions_ = feed_if_set(config.emissions, kIntensityUnit);
  average_ = feed_if_set(config.average, kIntensityUnit);
  excess_ = feed_if_set(config.excess, "MW");
}

bool LiveGate::allowed_beside(double now_unix_s) const {
  return allowed_at(limits_, value_of(average_, now_unix_s), value_of(excess_, now_unix_s));
}

bool LiveGate::open(double now_unix_s) {
  const bool was_open = open_;
  const bool by_signal = gate_->update(now_unix_s, gate_feed_->value_at(now_unix_s)) == GateState::train;
  const bool by_all = by_signal && allowed_beside(now_unix_s);
  if (by_all) open_until_unix_s_ = now_unix_s + grace_s_;
  open_ = by_all || (was_open && now_unix_s < open_until_unix_s_);
  if (open_ && !was_open)
    windows_.push_back({now_unix_s, now_unix_s});
  else if (was_open)
    windows_.back().close_unix_s = now_unix_s;
  return open_;
}

LiveValues LiveGate::values_at(double now_unix_s) const {
  return {open_,
          gate_feed_->value_at(now_unix_s),
          value_of(emissions_, now_unix_s),
          value_of(average_, now_unix_s),
          value_of(excess_, now_unix_s),
          signal().times_unix_s.empty() ? "" : signal().unit};
}

}  // namespace spillway
