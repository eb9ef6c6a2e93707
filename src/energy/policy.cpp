#include "energy/policy.hpp"

#include "core/error.hpp"

namespace spillway {
namespace {

// Whether the forecast made now promises that the signal stays open for the minimum length.
bool promises(const Forecast& forecast, const Signal& signal, const GateThresholds& thresholds,
              double now_unix_s, double min_length_s, double confidence) {
  double open = 0, steps = 0;
  for (double at = now_unix_s + signal.step_s; at < now_unix_s + min_length_s; at += signal.step_s, ++steps) {
    const auto value = forecast.predicted(now_unix_s, at);
    open += value && thresholds.stays(*value);
  }
  return open >= confidence * steps;
}

// The signal as a gate sees it that stays shut until the forecast is good: samples before that are unknown to it.
Signal screened(const Signal& signal, const GateThresholds& thresholds, const Forecast& forecast,
                double min_length_s, double confidence) {
  Signal result = signal;
  Gate gate(thresholds);
  for (std::size_t i = 0; i < signal.values.size(); ++i) {
    const double now = signal.times_unix_s[i];
    const bool closed = gate.state() == GateState::idle;
    if (closed && thresholds.opens(signal.values[i]) &&
        !promises(forecast, signal, thresholds, now, min_length_s, confidence))
      result.values[i] = thresholds.close_above;
    gate.update(now, result.values[i]);
    if (i + 1 < signal.values.size() && signal.held_until(i) < signal.times_unix_s[i + 1])
      gate.update(signal.held_until(i), std::nullopt);
  }
  return result;
}

}  // namespace

Policy parse_policy(const std::string& name) {
  for (const Policy policy : kPolicies)
    if (name == policy_name(policy)) return policy;
  fail(ExitCode::usage, "simulate.policy = '{}': must be reactive, hysteresis, forecast, foresight or oracle",
       name);
}

const char* policy_name(Policy policy) {
  switch (policy) {
    case Policy::reactive:
      return "reactive";
    case Policy::hysteresis:
      return "hysteresis";
    case Policy::forecast:
      return "forecast";
    case Policy::foresight:
      return "foresight";
    case Policy::oracle:
      return "oracle";
  }
  return "";
}

std::vector<Window> policy_windows(Policy policy, const Signal& signal, const GateThresholds& thresholds,
                                   double min_length_s, const Forecast* forecast, double confidence) {
  GateThresholds plain = thresholds, simple = thresholds;
  plain.grace_s = simple.grace_s = 0;
  simple.close_above = simple.open_below;
  switch (policy) {
    case Policy::reactive:
      return find_windows(signal, simple, 0);
    case Policy::hysteresis:
    case Policy::oracle:
      return find_windows(signal, plain, 0);
    case Policy::forecast:
      SPILLWAY_CHECK(forecast != nullptr);
      return find_windows(screened(signal, plain, *forecast, min_length_s, confidence), plain, 0);
    case Policy::foresight:
      return find_windows(signal, plain, min_length_s);
  }
  return {};
}

}  // namespace spillway
