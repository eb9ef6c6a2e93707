#include "comm/gateway_process.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include "core/error.hpp"
#include "core/time.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

constexpr std::ptrdiff_t kLastLines = 4;
constexpr int kSlots = 16;         // couriers of one host
constexpr int kFewestPorts = 128;  // 4 per slot
constexpr int kLargeBuffer = 4 << 20;

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// Whether an address lies in "10.0.0.0/24"; false where the text is no such block.
bool in_block(in_addr address, const std::string& block) {
  const auto slash = block.find('/');
  in_addr network = {};
  if (slash == std::string::npos || inet_pton(AF_INET, block.substr(0, slash).c_str(), &network) != 1)
    return false;
  const int bits = std::atoi(block.c_str() + slash + 1);
  if (bits < 0 || bits > 32) return false;
  const std::uint32_t mask = bits == 0 ? 0 : ~std::uint32_t{0} << (32 - bits);
  return ((ntohl(address.s_addr) ^ ntohl(network.s_addr)) & mask) == 0;
}

long read_last_number(const char* file) {
  std::ifstream stream(file);
  long value = 0, last = 0;
  while (stream >> value) last = value;
  return last;
}

}  // namespace

PortRange transfer_ports(const FederationConfig& config) {
  return {config.port_min, config.port_min + config.port_count / 2 - 1};
}

std::vector<PortSlot> port_slots(const FederationConfig& config) {
  std::vector<PortSlot> slots;
  const int size = config.port_count / 2 / kSlots;
  for (int i = 0, first = transfer_ports(config).last + 1; i < kSlots; ++i, first += size)
    slots.push_back({first, {first + 1, first + size - 1}});
  return slots;
}

std::optional<int> free_port(PortRange range) {
  for (int port = range.first; port <= range.last; ++port) {
    const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    // Without SO_REUSEADDR, as Open MPI does it: a port in TIME_WAIT does not count as free.
    if (socket && bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return port;
  }
  return std::nullopt;
}

void check_federation(const FederationConfig& config) {
  parse_endpoint("--federation.hub", config.hub);
  if (config.port_min < 1024 || config.port_min + config.port_count > 65536)
    fail(ExitCode::usage,
         "--federation.port-min {} with --federation.port-count {}: not within 1024 to 65535",
         config.port_min, config.port_count);
  if (config.port_count < kFewestPorts)
    fail(ExitCode::usage, "--federation.port-count {}: at least {} are needed", config.port_count,
         kFewestPorts);
  if (config.heartbeat_s <= 0 || config.lost_after_s < 2 * config.heartbeat_s)
    fail(ExitCode::usage, "--federation.lost-after {}: must be at least twice --federation.heartbeat {}",
         format_duration(config.lost_after_s), format_duration(config.heartbeat_s));
  if (config.exchange_deadline_s <= 0)
    fail(ExitCode::usage, "--federation.exchange-deadline: must be above 0");
  if (config.average_optimizer && config.overlap)
    fail(ExitCode::usage,
         "--federation.average-optimizer on: needs --federation.overlap off, as the state has moved on when "
         "a merge beside training ends");
  interface_address(config.interface);
}

std::string interface_address(const std::string& include) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) fail(ExitCode::io, "the network interfaces of this host cannot be listed");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  std::set<std::string> known;
  for (const std::string& wanted : split_list(include))
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
      known.insert(entry->ifa_name);
      const in_addr address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr;
      if (wanted != entry->ifa_name && !in_block(address, wanted)) continue;
      char text[INET_ADDRSTRLEN] = "";
      inet_ntop(AF_INET, &address, text, sizeof text);
      return text;
    }
  fail(ExitCode::usage, "--federation.interface {}: no such interface with an IPv4 address; here are: {}",
       include, fmt::join(known, ", "));
}

std::map<std::string, std::string> gateway_environment(const FederationConfig& config,
                                                       const std::string& name_server, int runtime_port,
                                                       const fs::path& directory) {
  const PortRange transfer = transfer_ports(config);
  std::map<std::string, std::string> environment = {
      {"TMPDIR", directory.string()},
      {"OMPI_MCA_orte_tmpdir_base", directory.string()},
      {"OMPI_MCA_pmix_server_uri", name_server},
      {"OMPI_MCA_plm", "isolated"},  // nothing is started elsewhere: no ssh is needed
      {"OMPI_MCA_pml", "ob1"},
      {"OMPI_MCA_btl", "tcp,self"},
      // "put" needs a round trip per message; with "send" several links stall (inter-site.md, "Throughput").
      {"OMPI_MCA_btl_tcp_flags", "send"},
      {"OMPI_MCA_btl_tcp_links", "1"},
      // Up to a sixth less processor time than with fragments of 128 KiB, and no gain from 1 MiB (2026-11-28, loopback, three
      // members on two cores); tests/fault/README.md has the figures, also of a link of 60 ms.
      {"OMPI_MCA_btl_tcp_max_send_size", "524288"},
      {"OMPI_MCA_btl_tcp_if_include", config.interface},
      {"OMPI_MCA_oob_tcp_if_include", config.interface},
      {"OMPI_MCA_btl_tcp_port_min_v4", std::to_string(transfer.first)},
      {"OMPI_MCA_btl_tcp_port_range_v4", std::to_string(transfer.last - transfer.first + 1)},
      {"OMPI_MCA_oob_tcp_dynamic_ipv4_ports", std::to_string(runtime_port)},
      // IPv4 alone: for IPv6 Open MPI would take ports outside of the range.
      {"OMPI_MCA_btl_tcp_disable_family", "6"},
      {"OMPI_MCA_oob_tcp_disable_ipv6_family", "1"},
      {"OMPI_MCA_mpi_yield_when_idle", "1"},
      {"OMPI_MCA_hwloc_base_binding_policy", "none"},
      {"OMPI_MCA_orte_abort_print_stack", "0"}};
  // Left alone, the kernel grows a socket's buffers up to these limits. Where they are too small for a long fast link,
  // fixed buffers are better, if the host permits large ones.
  if (read_last_number("/proc/sys/net/ipv4/tcp_wmem") < 4 * kLargeBuffer &&
      read_last_number("/proc/sys/net/core/wmem_max") >= kLargeBuffer &&
      read_last_number("/proc/sys/net/core/rmem_max") >= kLargeBuffer) {
    environment["OMPI_MCA_btl_tcp_sndbuf"] = std::to_string(kLargeBuffer);
    environment["OMPI_MCA_btl_tcp_rcvbuf"] = std::to_string(kLargeBuffer);
  }
  for (const char* name : {"PATH", "HOME", "LD_LIBRARY_PATH"})
    if (const char* value = std::getenv(name)) environment[name] = value;
  if (geteuid() == 0) {
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  return environment;
}

GatewayProcess::GatewayProcess(const FederationConfig& config, const Epoch& epoch, int runtime_port,
                               const fs::path& directory, int mailbox_descriptor)
    : log_(directory / "gateway.log") {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail(ExitCode::io, "{}: cannot be created: {}", directory.string(), error.message());
  auto [ours, theirs] = socket_pair();
  ProcessOptions options;
  options.arguments = {own_executable(), "gateway", "--federation.exchange-deadline",
                       format_duration(config.exchange_deadline_s)};
  options.environment = gateway_environment(config, epoch.name_server, runtime_port, directory);
  options.output_file = log_.string();
  options.new_session = true;
  options.parent_death_signal = SIGKILL;
  options.descriptors = {{kControlDescriptor, theirs.get()}, {kMailboxDescriptor, mailbox_descriptor}};
  control_ = LineSocket(std::move(ours));
  process_ = Process(options);
  control_.send(encode(epoch));
}

void GatewayProcess::kill() { process_.signal(SIGKILL); }

std::string GatewayProcess::last_words() const {
  std::ifstream stream(log_);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);)
    if (line.find_first_not_of("- \t") != std::string::npos) lines.push_back(line);
  if (std::ssize(lines) > kLastLines) lines.erase(lines.begin(), lines.end() - kLastLines);
  return fmt::format("{}", fmt::join(lines, " | "));
}

}  // namespace spillway
