// Signals that are asked for while time goes on.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/config.hpp"
#include "energy/provider.hpp"

namespace spillway {

// The value in force, or the last one before where that ended less than hold_s ago.
std::optional<double> held_value(const Signal& signal, double now_unix_s, double hold_s);

// Asks the provider every poll_s, in a thread of its own. Failures are logged once, when they begin and when they end.
class LiveSignal {
 public:
  // Asks once before it returns; a failure of the network is not an error here. unit: what the values must be in, else
  // they count as a failure; empty: any, but always the same. Throws as make_provider() does.
  LiveSignal(const SignalConfig& config, HttpOptions options, std::string unit = "");
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
  void take(const Signal& news, double now_unix_s);

  SignalConfig config_;
  std::string unit_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<Provider> provider_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  Signal signal_;
  std::string trouble_;
  std::thread thread_;
};

// One of a site's signals: live where its section names a provider, else known beforehand from its file.
class Feed {
 public:
  // unit: as for LiveSignal. Throws Error(usage) where a file is in another unit.
  Feed(const SignalConfig& config, const std::string& unit = "");
  std::optional<double> value_at(double now_unix_s) const;
  Signal snapshot() const { return live_ ? live_->snapshot() : known_; }

 private:
  std::unique_ptr<LiveSignal> live_;
  Signal known_;
};

}  // namespace spillway
