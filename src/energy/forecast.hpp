// What a site could know of its signal's future.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "core/config.hpp"
#include "energy/signal.hpp"

namespace spillway {

// A forecast as it stood at each instant. Pure; nothing where it says nothing.
class Forecast {
 public:
  virtual ~Forecast() = default;
  // The value predicted at `now_unix_s` for the later instant `at_unix_s`.
  virtual std::optional<double> predicted(double now_unix_s, double at_unix_s) const = 0;
};

// The value of 24 hours before.
class YesterdayForecast final : public Forecast {
 public:
  explicit YesterdayForecast(const Signal& signal) : signal_(signal) {}
  std::optional<double> predicted(double now_unix_s, double at_unix_s) const override;

 private:
  const Signal& signal_;
};

// One forecast for all instants: the one that a plan is made from.
class PlannedForecast final : public Forecast {
 public:
  explicit PlannedForecast(Signal signal) : signal_(std::move(signal)) {}
  std::optional<double> predicted(double, double at_unix_s) const override {
    return signal_.value_at(at_unix_s);
  }

 private:
  Signal signal_;
};

// Forecasts that were issued: at each instant, one for each of the next steps.
class IssuedForecast final : public Forecast {
 public:
  // Reads the columns f1, f2, … of a file in SGIP's layout: fK was issued at the row's instant for K steps later. Throws
  // Error(bad_data) where the file has none.
  explicit IssuedForecast(const SignalConfig& config);
  std::optional<double> predicted(double now_unix_s, double at_unix_s) const override;
  std::size_t horizon_steps() const { return steps_.size(); }

 private:
  std::vector<Signal> steps_;  // [K−1]: fK at the instants at which it was issued
};

}  // namespace spillway
