#include "comm/gateways.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>
#include <utility>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

constexpr double kHelperGrace_s = 0.5;  // a helper daemon sees its gateway die and ends on its own

// The children of this process: gateways, and helpers that ended gateways left behind, as the courier is their subreaper.
std::vector<pid_t> children() {
  std::ifstream stream(fmt::format("/proc/self/task/{}/children", getpid()));
  std::vector<pid_t> result;
  for (pid_t child = 0; stream >> child;) result.push_back(child);
  return result;
}

// To be called when no gateway runs.
void reap_helpers(std::int64_t epoch) {
  const double start_s = monotonic_s();
  while (waitpid(-1, nullptr, WNOHANG) >= 0) {  // until there are no children
    const double waited_s = monotonic_s() - start_s;
    if (waited_s > kHelperGrace_s)
      for (const pid_t child : children()) kill(child, SIGKILL);
    if (waited_s > 2 * kHelperGrace_s) return log_warning("a helper of epoch {} does not end", epoch);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

Gateways::Gateways(const FederationConfig& config, const PortSlot& slot, const Epoch& epoch,
                   const fs::path& base, int mailbox_descriptor)
    : epoch_(epoch.epoch), directory_(base / std::to_string(epoch.epoch)) {
  try {
    start(config, slot, epoch, mailbox_descriptor);
  } catch (...) {
    clear();
    throw;
  }
}

Gateways::~Gateways() { clear(); }

void Gateways::start(const FederationConfig& config, const PortSlot& slot, Epoch epoch,
                     int mailbox_descriptor) {
  PortRange ports = slot.runtime;
  for (epoch.stream = 0; epoch.stream < epoch.streams; ++epoch.stream) {
    const auto port = free_port(ports);
    if (!port)
      fail(ExitCode::io, "fewer than {} of the ports {} to {} are free: raise --federation.port-count",
           epoch.streams, slot.runtime.first, slot.runtime.last);
    gateways_.emplace_back(config, epoch, *port, directory_ / std::to_string(epoch.stream),
                           mailbox_descriptor);
    ports.first = *port + 1;  // it may not have taken that one yet
  }
}

void Gateways::clear() {
  for (GatewayProcess& gateway : gateways_) gateway.kill();
  gateways_.clear();
  reap_helpers(epoch_);
  std::error_code ignored;  // swept with the courier's own directory later
  fs::remove_all(directory_, ignored);
}

void Gateways::collect(std::vector<pollfd>& entries) const {
  for (const GatewayProcess& gateway : gateways_) {
    const LineSocket& control = gateway.control();
    if (control.open()) entries.push_back({control.descriptor(), control.events(), 0});
  }
}

void Gateways::send(const Message& message) {
  const std::string line = encode(message);
  for (GatewayProcess& gateway : gateways_) gateway.control().send(line);
}

std::optional<Message> Gateways::next() {
  // Formed and Exchanged are counted alike: a gateway has nothing else to say until it is told to go on, and that is when
  // all have said the same.
  const auto all_have_said = [&](auto message) -> std::optional<Message> {
    slowest_s_ = std::max(slowest_s_, message.seconds);
    if (++heard_ < gateways_.size()) return std::nullopt;
    heard_ = 0;
    message.seconds = std::exchange(slowest_s_, 0);
    return message;
  };
  for (GatewayProcess& gateway : gateways_) {
    LineSocket& control = gateway.control();
    control.on_ready();
    while (const auto line = control.next_line()) {
      const Message message = decode(*line);
      std::optional<Message> common;
      if (const auto* formed = std::get_if<Formed>(&message))
        common = all_have_said(*formed);
      else if (const auto* exchanged = std::get_if<Exchanged>(&message))
        common = all_have_said(*exchanged);
      else if (std::holds_alternative<Fail>(message))
        common = message;
      else if (!std::holds_alternative<Stopped>(message))
        log_error("not a gateway's message: {}", line->substr(0, 80));
      if (common) return common;
    }
  }
  return std::nullopt;
}

bool Gateways::ended() {
  return std::none_of(gateways_.begin(), gateways_.end(),
                      [](GatewayProcess& gateway) { return gateway.running(); });
}

std::optional<Fail> Gateways::failure() {
  const auto found = std::find_if(gateways_.begin(), gateways_.end(),
                                  [](GatewayProcess& gateway) { return !gateway.running(); });
  if (found == gateways_.end()) return std::nullopt;
  return Fail{epoch_, fmt::format("gateway ended with status {}", found->status().value_or(0)), ""};
}

std::string Gateways::last_words() const {
  std::vector<std::string> words;
  for (const GatewayProcess& gateway : gateways_)
    if (const std::string last = gateway.last_words(); !last.empty()) words.push_back(last);
  return fmt::format("{}", fmt::join(words, " | "));
}

}  // namespace spillway
