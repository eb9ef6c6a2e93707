// A member's gateways of one epoch, one per stream, as the courier sees them: they start, work, fail and end together.
#pragma once

#include <poll.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "comm/gateway_process.hpp"
#include "comm/protocol.hpp"

namespace spillway {

class Gateways {
 public:
  // Starts them with their files below `base`. Throws Error(io) where one does not start, also where too few of the slot's
  // ports are free.
  Gateways(const FederationConfig& config, const PortSlot& slot, const Epoch& epoch,
           const std::filesystem::path& base, int mailbox_descriptor);
  // Kills them and the helper daemons that Open MPI gave them, and removes their files.
  ~Gateways();
  Gateways(const Gateways&) = delete;
  Gateways& operator=(const Gateways&) = delete;

  std::int64_t epoch() const { return epoch_; }
  // Adds what poll(2) should wait for.
  void collect(std::vector<pollfd>& entries) const;
  void send(const Message& message);  // to each
  // What they have to say as one: Formed or Exchanged once the last of them says so, with its time; Fail when the first
  // does. Their Stopped says nothing: that all have ended is what counts.
  std::optional<Message> next();
  // Whether all have ended.
  bool ended();
  // That one has ended, which it must not unless it was told to stop.
  std::optional<Fail> failure();
  // The last lines that they or Open MPI printed; one line, may be empty.
  std::string last_words() const;

 private:
  void start(const FederationConfig& config, const PortSlot& slot, Epoch epoch, int mailbox_descriptor);
  void clear();

  std::int64_t epoch_;
  std::filesystem::path directory_;
  std::vector<GatewayProcess> gateways_;
  std::size_t heard_ = 0;  // of them have said what the others are still to say
  double slowest_s_ = 0;   // of those
};

}  // namespace spillway
