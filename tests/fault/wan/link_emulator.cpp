// A link between two network namespaces: a TUN device in each, with delay, rate and faults. A stand-in for netem, which
// many kernels lack.
//
//   link_emulator NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B DELAY_MS MBIT_PER_S
//
// A namespace is a file such as /run/netns/NAME. The caller gives the devices addresses and sets them up. Commands come
// on standard input, one a line, and each is answered by a line, "ok" or "error: …". The link ends with the input.
//
//   down                the carrier is gone at both ends; what is under way is lost
//   blackhole           everything vanishes, and the ends do not notice
//   cut ADDRESS         only packets from or to this IPv4 address vanish; may be said several times
//   restore             up, nothing cut
//   statistics          one line of JSON instead of "ok"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <set>
#include <sstream>
#include <string>

#include "comm/descriptor.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "tests/fault/wan/pipe.hpp"

namespace {

using spillway::Descriptor;
using spillway::ExitCode;
using spillway::fail;

// What precedes each frame of a TUN device with IFF_VNET_HDR: the kernel's virtio_net_hdr, whose header is not C++.
struct VnetHeader {
  std::uint8_t flags, gso_type;
  std::uint16_t header_bytes, gso_size;  // gso_size: payload of a segment
  std::uint16_t checksum_start, checksum_offset;
};
static_assert(sizeof(VnetHeader) == 10);
constexpr std::uint8_t kNoOffload = 0;

constexpr std::size_t kLargestFrame = 65536 + sizeof(VnetHeader);
constexpr int kFramesPerTurn = 32;  // read from one end before the other gets its turn
constexpr std::size_t kIpv4Header = 20, kTcpHeader = 20;
constexpr unsigned kSlack_ns = 5000;  // timers of this process may be this late

Descriptor open_tun(const std::string& name_space, const std::string& device) {
  const Descriptor own(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const Descriptor other(open(name_space.c_str(), O_RDONLY | O_CLOEXEC));
  if (!other || setns(other.get(), CLONE_NEWNET) != 0)
    fail(ExitCode::io, "namespace {}: {}", name_space, std::strerror(errno));
  Descriptor tun(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request = {};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device.c_str());
  // Offloads: TCP's frames stay as large as the kernel makes them, so that two cores can carry several Gbit/s.
  if (!tun || ioctl(tun.get(), TUNSETIFF, &request) != 0 ||
      ioctl(tun.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0)
    fail(ExitCode::io, "device {}: {}", device, std::strerror(errno));
  if (setns(own.get(), CLONE_NEWNET) != 0) fail(ExitCode::io, "setns: {}", std::strerror(errno));
  return tun;
}

template <class Header>
Header header_at(const Pipe::Frame& frame, std::size_t offset) {
  Header header;
  std::memcpy(&header, frame.data() + offset, sizeof header);
  return header;
}

std::uint8_t byte_at(const Pipe::Frame& frame, std::size_t offset) {
  return std::to_integer<std::uint8_t>(frame[offset]);
}

// What a frame takes on the wire: a large one is sent as segments, each with headers of its own.
std::int64_t wire_bytes(const Pipe::Frame& frame) {
  constexpr std::size_t ip = sizeof(VnetHeader);
  const auto offload = header_at<VnetHeader>(frame, 0);
  const auto bytes = static_cast<std::int64_t>(frame.size() - ip);
  if (offload.gso_type == kNoOffload || offload.gso_size == 0) return bytes;
  const std::size_t tcp = ip + std::size_t{4} * (byte_at(frame, ip) & 15);
  if (frame.size() < tcp + kTcpHeader) return bytes;
  const auto headers =
      static_cast<std::int64_t>(tcp - ip) + std::int64_t{4} * (byte_at(frame, tcp + 12) >> 4);
  const std::int64_t segments = (bytes - headers + offload.gso_size - 1) / offload.gso_size;
  return bytes + std::max<std::int64_t>(0, segments - 1) * headers;
}

class Link {
 public:
  Link(std::array<Descriptor, 2> ends, const PipeSpec& spec)
      : ends_(std::move(ends)), pipes_{Pipe(spec), Pipe(spec)} {}

  // Until standard input ends.
  void run() {
    std::array<pollfd, 3> entries = {
        {{ends_[0].get(), POLLIN, 0}, {ends_[1].get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}}};
    for (bool open = true; open;) {
      double next_s = 1e300;
      for (int side = 0; side < 2; ++side) {
        deliver(side);
        next_s = std::min(next_s, pipes_[side].next_s().value_or(next_s));
      }
      const double wait_s = std::clamp(next_s - spillway::monotonic_s(), 0.0, 1.0);
      const timespec wait = {static_cast<time_t>(wait_s), static_cast<long>(std::fmod(wait_s, 1) * 1e9)};
      ppoll(entries.data(), entries.size(), &wait, nullptr);
      for (int side = 0; side < 2; ++side)
        if (entries[static_cast<std::size_t>(side)].revents != 0) take(side);
      if (entries[2].revents != 0) open = read_commands();
    }
  }

 private:
  // What has arrived by now goes out at the other end.
  void deliver(int side) {
    while (const auto frame = pipes_[side].pop(spillway::monotonic_s())) {
      // A device that is not up refuses frames, as a machine that is off does.
      if (write(ends_[1 - side].get(), frame->data(), frame->size()) < 0)
        ++refused_;
      else
        ++delivered_;
    }
  }

  void take(int side) {
    std::array<std::byte, kLargestFrame> buffer;
    for (int i = 0; i < kFramesPerTurn; ++i) {
      const ssize_t size = read(ends_[side].get(), buffer.data(), buffer.size());
      if (size < static_cast<ssize_t>(sizeof(VnetHeader) + kIpv4Header)) return;
      Pipe::Frame frame(buffer.begin(), buffer.begin() + size);
      const std::int64_t bytes = wire_bytes(frame);
      if (vanishes(frame))
        ++vanished_;
      else if (!pipes_[side].push(spillway::monotonic_s(), std::move(frame), bytes))
        ++dropped_;
    }
  }

  bool vanishes(const Pipe::Frame& frame) const {
    if (down_ || blackhole_) return true;
    constexpr std::size_t ip = sizeof(VnetHeader);
    return cut_.count(header_at<in_addr_t>(frame, ip + 12)) != 0 ||
           cut_.count(header_at<in_addr_t>(frame, ip + 16)) != 0;
  }

  bool read_commands() {
    std::array<char, 4096> buffer;
    const ssize_t size = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (size <= 0) return false;
    input_.append(buffer.data(), static_cast<std::size_t>(size));
    for (std::size_t end; (end = input_.find('\n')) != std::string::npos; input_.erase(0, end + 1)) {
      std::string answer = "ok";
      try {
        obey(input_.substr(0, end), answer);
      } catch (const spillway::Error& error) {
        answer = std::string("error: ") + error.what();
      }
      std::cout << answer << std::endl;
    }
    return true;
  }

  void obey(const std::string& line, std::string& answer) {
    std::istringstream words(line);
    std::string command, operand;
    words >> command >> operand;
    if (command == "down") {
      set_carrier(false);
      for (Pipe& pipe : pipes_) pipe.clear();
    } else if (command == "blackhole") {
      blackhole_ = true;
      for (Pipe& pipe : pipes_) pipe.clear();
    } else if (command == "cut") {
      in_addr address = {};
      if (inet_pton(AF_INET, operand.c_str(), &address) != 1)
        fail(ExitCode::usage, "'{}' is no IPv4 address", operand);
      cut_.insert(address.s_addr);
    } else if (command == "restore") {
      set_carrier(true);
      blackhole_ = false;
      cut_.clear();
    } else if (command == "statistics") {
      answer = fmt::format("{{\"delivered\": {}, \"dropped\": {}, \"vanished\": {}, \"refused\": {}}}",
                           delivered_, dropped_, vanished_, refused_);
    } else {
      fail(ExitCode::usage, "unknown command '{}'", command);
    }
  }

  void set_carrier(bool up) {
    down_ = !up;
    int carrier = up ? 1 : 0;
    for (const Descriptor& end : ends_)
      if (ioctl(end.get(), TUNSETCARRIER, &carrier) != 0)
        fail(ExitCode::io, "carrier: {}", std::strerror(errno));
  }

  std::array<Descriptor, 2> ends_;
  std::array<Pipe, 2> pipes_;  // from each end to the other
  bool down_ = false, blackhole_ = false;
  std::set<in_addr_t> cut_;
  std::int64_t delivered_ = 0, dropped_ = 0, vanished_ = 0, refused_ = 0;  // frames
  std::string input_;
};

double positive(const char* name, const std::string& text) {
  std::istringstream stream(text);
  double value = 0;
  if (!(stream >> value) || !stream.eof() || !(value > 0))
    fail(ExitCode::usage, "{}: '{}' is no positive number", name, text);
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 7)
      fail(ExitCode::usage,
           "usage: link_emulator NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B DELAY_MS MBIT_PER_S");
    prctl(PR_SET_TIMERSLACK, kSlack_ns, 0, 0, 0);
    PipeSpec spec;
    spec.delay_s = positive("DELAY_MS", argv[5]) / 1e3;
    spec.bits_per_s = positive("MBIT_PER_S", argv[6]) * 1e6;
    Link link({open_tun(argv[1], argv[2]), open_tun(argv[3], argv[4])}, spec);
    std::cout << "ready" << std::endl;
    link.run();
    return 0;
  } catch (const spillway::Error& error) {
    std::cerr << "link_emulator: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
