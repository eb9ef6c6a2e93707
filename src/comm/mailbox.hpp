// Memory shared by a site's leader and its gateways, for the vectors that they exchange.
//
// An anonymous file (memfd), inherited by descriptor: no name, so nothing is left to sweep after kill -9 of any
// process. Who may write when follows from the protocol (Prepared, Exchanged, Received in protocol.hpp).
// The header also has a count of beats, by which the courier sees that the leader's process runs.
// Layout: one page of header, then `contribution`, `velocity`, `optimizer_state` and `feedback`, each padded to whole pages.
// `feedback` takes no memory until reserve_feedback().
#pragma once

#include <cstdint>
#include <span>

#include "comm/descriptor.hpp"

namespace spillway {

class Mailbox {
 public:
  // A new one, zero-filled, with arrays of `parameter_count` floats, and one of `state_count` for the optimizer's state: 0
  // where that is not exchanged. Throws Error(io) where memory is short.
  static Mailbox create(std::int64_t parameter_count, std::int64_t state_count = 0);
  // Maps one that another process created. Throws Error(bad_data) where the descriptor is something else.
  static Mailbox attach(Descriptor descriptor);

  Mailbox(Mailbox&& other) noexcept;
  Mailbox& operator=(Mailbox&&) = delete;
  ~Mailbox();

  int descriptor() const { return descriptor_.get(); }
  std::int64_t parameter_count() const { return counts_.parameters; }
  // Δ in and weighted mean out (nesterov, average), or parameters (adopt, sync).
  std::span<float> contribution() const;
  // The outer velocity (sync).
  std::span<float> velocity() const;
  // The optimizer's state in and its weighted mean out (nesterov, average).
  std::span<float> optimizer_state() const;
  // Error feedback of a sum in int8 (RingWire). To be reserved before its first use.
  std::span<float> feedback() const;
  // Throws Error(io) where memory is short.
  void reserve_feedback() const;
  // A sign of life: beats() is another number then. For any thread.
  void beat() const;
  std::uint64_t beats() const;

 private:
  struct Counts {  // of floats
    std::int64_t parameters = 0, state = 0;
    std::int64_t before_feedback_bytes() const;
    std::int64_t total_bytes() const;
  };
  struct Header;

  std::span<float> array(std::int64_t first_byte, std::int64_t count) const;
  std::uint64_t& counter() const;
  Mailbox(Descriptor descriptor, Counts counts);

  Descriptor descriptor_;
  Counts counts_;
  std::byte* base_ = nullptr;
};

}  // namespace spillway
