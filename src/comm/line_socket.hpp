// Non-blocking stream sockets that carry lines: TCP between hub and couriers, socket pairs between the processes
// of one site. Buffers are bounded. Nothing here waits; owners call poll(2) on descriptor() and events().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/descriptor.hpp"
#include "comm/seal.hpp"

namespace spillway {

struct Endpoint {
  std::string host;  // name or address; an IPv6 address without its brackets
  int port = 0;
};
// "host:port" or "[address]:port". Throws Error(usage) naming `what` (e.g. "--federation.hub") otherwise.
Endpoint parse_endpoint(const std::string& what, const std::string& text);
std::string format_endpoint(const Endpoint& endpoint);

inline constexpr const char* kClosedByPeer = "closed by the other side";

// One end of a connection. A connection that has failed or was closed by the other side stays "closed" with a
// reason; lines that arrived before can still be taken.
class LineSocket {
 public:
  LineSocket() = default;
  // Takes over a connected stream socket.
  explicit LineSocket(Descriptor connected);
  // Starts to connect. The connection is up or has failed (closed()) once on_ready() has run; until then
  // connecting() holds and send() buffers. Looking up a name may block; an address does not.
  // user_timeout_s: data unacknowledged for this long closes the connection.
  static LineSocket connect(const Endpoint& to, double user_timeout_s);

  // From here on both sides must show the key, and every line carries a code (comm/seal.hpp); a failure closes the
  // connection. Call before anything is sent. Without a key (null) nothing changes.
  void authenticate(SharedKey key, Seal::Side side);

  int descriptor() const { return socket_.get(); }
  short events() const;  // what to poll for
  // Reads, writes and finishes connecting as far as possible without waiting. Call after poll(2), or at any time.
  void on_ready();

  // The next complete line without its newline; nothing if there is none yet.
  std::optional<std::string> next_line();
  // Adds the newline. What does not go out at once is kept. Nothing happens on a closed connection.
  void send(std::string_view line);

  bool connecting() const { return connecting_; }
  bool open() const { return static_cast<bool>(socket_); }
  bool closed() const { return !open(); }
  const std::string& reason() const { return reason_; }  // why it is closed
  // Closed by the other side or by the network, not for what the other side has said.
  bool lost() const { return lost_; }
  bool flushed() const { return output_.empty() && unsealed_.empty(); }
  // The other side's numeric address, without port; empty for socket pairs.
  std::string peer_address() const;
  // Ends the connection; `why` becomes reason().
  void close(const std::string& why);

 private:
  std::optional<std::string> next_raw_line();
  void send_raw(std::string_view line);
  std::size_t input_limit() const;
  void lose(const std::string& why);
  void finish_connecting();
  void read_some();
  void write_some();

  Descriptor socket_;
  std::unique_ptr<Seal> seal_;
  std::string input_, output_;
  std::vector<std::string> unsealed_;  // to be sent once the other side's challenge is here
  std::size_t unsealed_bytes_ = 0;
  std::size_t taken_ = 0;  // bytes at the front of input_ that next_line() has handed out
  std::string reason_ = "never connected";
  bool connecting_ = false;
  bool lost_ = false;
};

// A listening TCP socket.
class Listener {
 public:
  // Port 0: any free one. Throws Error(io) naming the address if it cannot be used.
  explicit Listener(const Endpoint& at);

  int descriptor() const { return socket_.get(); }
  int port() const;
  // The next waiting connection, or nothing.
  std::optional<LineSocket> accept(double user_timeout_s);

 private:
  Descriptor socket_;
};

// Two connected sockets for processes of one machine; both close-on-exec.
std::pair<Descriptor, Descriptor> socket_pair();

}  // namespace spillway
