#include "comm/line_socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "comm/protocol.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

// A reader that falls this far behind is as good as dead.
constexpr std::size_t kMaxOutput = 8 * kMaxLine;
// Past this much input, taken lines first: the kernel's buffer slows the sender down.
constexpr std::size_t kMaxInput = 2 * kMaxLine;

struct AddressDeleter {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressDeleter>;

// The addresses of an endpoint; *problem says why there are none.
AddressList resolve(const Endpoint& endpoint, int flags, std::string* problem) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const char* host = endpoint.host.empty() ? nullptr : endpoint.host.c_str();
  const int error = getaddrinfo(host, std::to_string(endpoint.port).c_str(), &hints, &list);
  if (error != 0) *problem = gai_strerror(error);
  return AddressList(list);
}

// Failure of an option is no failure of the connection: the heartbeats notice a dead peer too.
void tune_tcp(int socket, double user_timeout_s) {
  const int yes = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  const auto timeout_ms = static_cast<unsigned>(user_timeout_s * 1000);
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

Endpoint parse_endpoint(const std::string& what, const std::string& text) {
  const auto colon = text.rfind(':');
  Endpoint endpoint;
  if (colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data() + colon + 1, last, endpoint.port);
    if (error != std::errc() || end != last) endpoint.port = -1;
    if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']')
      endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  }
  if (endpoint.host.empty() || endpoint.port < 0 || endpoint.port > 65535)
    fail(ExitCode::usage, "{} {}: expected HOST:PORT", what, text);
  return endpoint;
}

std::string format_endpoint(const Endpoint& endpoint) {
  const bool bracket = endpoint.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", bracket ? "[" : "", endpoint.host, bracket ? "]" : "", endpoint.port);
}

LineSocket::LineSocket(Descriptor connected) : socket_(std::move(connected)) {
  fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
  reason_.clear();
}

LineSocket LineSocket::connect(const Endpoint& to, double user_timeout_s) {
  LineSocket result;
  const AddressList addresses = resolve(to, 0, &result.reason_);
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Descriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket &&
        (::connect(socket.get(), address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)) {
      tune_tcp(socket.get(), user_timeout_s);
      result.socket_ = std::move(socket);
      result.connecting_ = true;
      result.reason_.clear();
      return result;
    }
    result.reason_ = std::strerror(errno);
  }
  return result;
}

void LineSocket::authenticate(SharedKey key, Seal::Side side) {
  if (!key || !open()) return;
  seal_ = std::make_unique<Seal>(std::move(key), side);
  send_raw(seal_->greeting());
}

// A stranger gets no more memory than a handshake needs.
std::size_t LineSocket::input_limit() const {
  return seal_ && !seal_->authenticated() ? kMaxHandshakeLine : kMaxInput;
}

short LineSocket::events() const {
  if (!open()) return 0;
  if (connecting_) return POLLOUT;
  return static_cast<short>((input_.size() - taken_ < kMaxInput ? POLLIN : 0) |
                            (output_.empty() ? 0 : POLLOUT));
}

void LineSocket::on_ready() {
  if (connecting_) finish_connecting();
  if (connecting_ || !open()) return;
  // Read before writing: what a dying peer has said must not be lost to the broken pipe.
  read_some();
  if (open()) write_some();
}

void LineSocket::finish_connecting() {
  pollfd entry = {socket_.get(), POLLOUT, 0};
  if (poll(&entry, 1, 0) <= 0) return;
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  connecting_ = false;
  if (error != 0) lose(std::strerror(error));
}

void LineSocket::read_some() {
  char chunk[65536];
  input_.erase(0, taken_);
  taken_ = 0;
  while (input_.size() < input_limit()) {
    const ssize_t got = recv(socket_.get(), chunk, sizeof chunk, 0);
    if (got == 0) return lose(kClosedByPeer);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (!would_block(errno)) lose(std::strerror(errno));
      return;
    }
    input_.append(chunk, static_cast<std::size_t>(got));
    const std::size_t longest = !seal_                   ? kMaxLine
                                : seal_->authenticated() ? kMaxLine + kSealBytes
                                                         : kMaxHandshakeLine;
    if (input_.size() > longest && input_.find('\n') > longest) {
      input_.clear();
      return close(fmt::format("a line longer than {} bytes", longest));
    }
  }
}

void LineSocket::write_some() {
  std::size_t sent = 0;
  while (sent < output_.size()) {
    const ssize_t wrote = ::send(socket_.get(), output_.data() + sent, output_.size() - sent, MSG_NOSIGNAL);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      if (!would_block(errno)) return lose(std::strerror(errno));
      break;
    }
    sent += static_cast<std::size_t>(wrote);
  }
  output_.erase(0, sent);
}

std::optional<std::string> LineSocket::next_line() {
  while (auto line = next_raw_line()) {
    if (!seal_) {
      if (!line->starts_with(kSealGreeting)) return line;
      input_.clear();
      taken_ = 0;
      close("it asks for a key: set federation.key-file");
      return std::nullopt;
    }
    try {
      const bool keyed = seal_->keyed();
      auto said = seal_->open(*line);
      if (said) return said;
      if (keyed) continue;
      send_raw(seal_->close(""));  // the proof
      for (const auto& waiting : std::exchange(unsealed_, {})) send_raw(seal_->close(waiting));
    } catch (const Error& error) {
      input_.clear();
      taken_ = 0;
      close(fmt::format("authentication: {}", error.what()));
    }
  }
  return std::nullopt;
}

std::optional<std::string> LineSocket::next_raw_line() {
  const auto end = input_.find('\n', taken_);
  if (end == std::string::npos) return std::nullopt;
  const auto first = std::exchange(taken_, end + 1);
  return input_.substr(first, end - first);
}

void LineSocket::send(std::string_view line) {
  if (!open()) return;
  if (!seal_) return send_raw(line);
  if (seal_->keyed()) return send_raw(seal_->close(line));
  unsealed_bytes_ += line.size();
  unsealed_.emplace_back(line);
  if (unsealed_bytes_ > kMaxOutput) close("it does not authenticate itself");
}

void LineSocket::send_raw(std::string_view line) {
  if (!open()) return;
  output_.append(line);
  output_.push_back('\n');
  if (!connecting_) write_some();
  if (output_.size() > kMaxOutput) close(fmt::format("{} bytes unread by the other side", output_.size()));
}

std::string LineSocket::peer_address() const {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST] = "";
  if (!open() || getpeername(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return "";
  getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

void LineSocket::lose(const std::string& why) {
  close(why);
  lost_ = true;
}

void LineSocket::close(const std::string& why) {
  socket_.reset();
  connecting_ = false;
  output_.clear();
  unsealed_.clear();
  reason_ = why;
}

Listener::Listener(const Endpoint& at) {
  std::string problem;
  const AddressList addresses = resolve(at, AI_PASSIVE, &problem);
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Descriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int yes = 1;
    if (socket) setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (socket && bind(socket.get(), address->ai_addr, address->ai_addrlen) == 0 &&
        listen(socket.get(), SOMAXCONN) == 0) {
      socket_ = std::move(socket);
      return;
    }
    problem = std::strerror(errno);
  }
  fail(ExitCode::io, "cannot listen on {}: {}", format_endpoint(at), problem);
}

int Listener::port() const {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  SPILLWAY_CHECK(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::optional<LineSocket> Listener::accept(double user_timeout_s) {
  Descriptor socket(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket) return std::nullopt;
  tune_tcp(socket.get(), user_timeout_s);
  return LineSocket(std::move(socket));
}

std::pair<Descriptor, Descriptor> socket_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    fail(ExitCode::io, "socketpair: {}", std::strerror(errno));
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

}  // namespace spillway
