// A signal that is asked for while time goes on, and the gate on it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/config.hpp"
#include "energy/gate.hpp"
#include "energy/provider.hpp"

namespace spillway {

// The value in force, or the last one before where that ended less than hold_s ago.
std::optional<double> held_value(const Signal& signal, double now_unix_s, double hold_s);

// Asks the provider every poll_s, in a thread of its own. Failures are logged once, when they begin and when they end.
class LiveSignal {
 public:
  // Asks once before it returns; a failure of the network is not an error here. Throws as make_provider() does.
  LiveSignal(const SignalConfig& config, HttpOptions options);
  ~LiveSignal();
  LiveSignal(const LiveSignal&) = delete;
  LiveSignal& operator=(const LiveSignal&) = delete;

  // Held as held_value() says; nothing: unknown, which counts as closed.
  std::optional<double> value_at(double now_unix_s) const;
  // All that came so far, of the last two days.
  Signal snapshot() const;

 private:
  void ask();
  void watch();

  SignalConfig config_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<Provider> provider_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  Signal signal_;
  std::string trouble_;
  std::thread thread_;
};

// The production gate on a live signal, and the windows it has given so far.
class LiveGate {
 public:
  // Thresholds are those of [gate]; a percentile is one of signal.file. Throws Error(usage) where they cannot be had.
  explicit LiveGate(const Config& config);
  bool open(double now_unix_s);
  // The last one ends at the last instant that open() was asked about.
  const std::vector<Window>& windows() const { return windows_; }
  std::optional<double> value_at(double now_unix_s) const { return signal_.value_at(now_unix_s); }
  Signal snapshot() const { return signal_.snapshot(); }

 private:
  LiveSignal signal_;
  Gate gate_;
  std::vector<Window> windows_;
  bool open_ = false;
};

}  // namespace spillway
