// One direction of an emulated link: a token bucket with a bounded queue before it and a delay behind it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

struct PipeSpec {
  double delay_s = 0;                // one way
  double bits_per_s = 1e9;           // of IP packets
  std::int64_t burst_bytes = 65536;  // the bucket's depth: what passes at once after a pause
  double queue_s = 0.1;              // what waits longer for the bucket is dropped
};

class Pipe {
 public:
  using Frame = std::vector<std::byte>;

  explicit Pipe(const PipeSpec& spec) : spec_(spec) {}

  // Takes a frame that counts as `wire_bytes`; false: the queue is full and it is dropped.
  bool push(double now_s, Frame frame, std::int64_t wire_bytes) {
    // The bucket, as the instant at which all that it has let through is paid for; at most a full bucket is saved up.
    const double saved_s = static_cast<double>(spec_.burst_bytes) * 8 / spec_.bits_per_s;
    const double paid_s = std::max(paid_s_, now_s - saved_s);
    if (paid_s - now_s > spec_.queue_s) return false;
    paid_s_ = paid_s + static_cast<double>(wire_bytes) * 8 / spec_.bits_per_s;
    frames_.emplace_back(std::max(now_s, paid_s_) + spec_.delay_s, std::move(frame));
    return true;
  }

  // The next frame that has arrived by now, in the order of push().
  std::optional<Frame> pop(double now_s) {
    if (frames_.empty() || frames_.front().first > now_s) return std::nullopt;
    Frame frame = std::move(frames_.front().second);
    frames_.pop_front();
    return frame;
  }

  std::optional<double> next_s() const {
    return frames_.empty() ? std::nullopt : std::optional(frames_.front().first);
  }
  void clear() { frames_.clear(); }

 private:
  PipeSpec spec_;
  double paid_s_ = -1e300;
  std::deque<std::pair<double, Frame>> frames_;  // instant of arrival, frame
};
