#include "comm/observer.hpp"

#include <poll.h>

#include "comm/protocol.hpp"
#include "core/clock.hpp"

namespace spillway {
namespace {

constexpr double kRetry_s = 0.2;
constexpr double kUserTimeout_s = 5;

}  // namespace

Observer::Observer(Endpoint hub, std::string name, SharedKey key)
    : hub_(std::move(hub)), name_(std::move(name)), key_(std::move(key)) {
  connect();
}

void Observer::connect() {
  attempt_s_ = monotonic_s();
  socket_ = LineSocket::connect(hub_, kUserTimeout_s);
  socket_.authenticate(key_, Seal::Side::member);
  Hello hello;
  hello.member = name_;
  hello.role = "observer";
  socket_.send(encode(hello));
}

void Observer::read() {
  socket_.on_ready();
  while (const auto line = socket_.next_line()) {
    const Message message = decode(*line);
    if (const auto* status = std::get_if<Status>(&message)) status_ = status->snapshot;
  }
  if (socket_.closed() && monotonic_s() - attempt_s_ > kRetry_s) connect();
}

bool Observer::wait(double seconds) {
  const double end_s = monotonic_s() + seconds;
  for (read(); status_.is_null() && monotonic_s() < end_s; read()) {
    pollfd entry = {socket_.descriptor(), socket_.events(), 0};
    constexpr int slice_ms = 50;
    poll(&entry, socket_.open() ? 1 : 0, slice_ms);
  }
  return !status_.is_null();
}

}  // namespace spillway
