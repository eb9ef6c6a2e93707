#include "comm/gateway.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <numeric>
#include <optional>
#include <thread>
#include <variant>

#include "comm/exchange.hpp"
#include "comm/line_socket.hpp"
#include "comm/mailbox.hpp"
#include "comm/mpi.hpp"
#include "comm/protocol.hpp"
#include "comm/pulse.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/process.hpp"

namespace spillway {
namespace {

constexpr double kPulseInterval_s = 2;
constexpr int kIdlePoll_ms = 5;
constexpr int kPollEvery = 64;  // rounds of an exchange's loop between two looks at pulses and commands
constexpr auto kLookupPause = std::chrono::milliseconds(20);
constexpr double kFarewell_s = 0.5;
constexpr auto kFailed = static_cast<int>(ExitCode::io);

// What has to be exchanged, and with whom.
struct Order {
  std::variant<Go, Sync> command;
  std::vector<int> ranks;    // who takes part
  std::uint64_t digest = 0;  // equal on all who do
};

std::vector<int> ranks_from(int first, int size) {
  std::vector<int> ranks(static_cast<std::size_t>(size));
  for (int i = 0; i < size; ++i) ranks[static_cast<std::size_t>(i)] = (first + i) % size;
  return ranks;
}

// Signals that tell the site to suspend are for the trainer; a gateway ends with its courier.
void ignore_stop_signals() {
  for (const int signal_number : {SIGUSR1, SIGTERM, SIGINT, SIGPIPE}) std::signal(signal_number, SIG_IGN);
}

class Gateway {
 public:
  Gateway(LineSocket control, Mailbox mailbox, double deadline_s)
      : control_(std::move(control)), mailbox_(std::move(mailbox)), deadline_s_(deadline_s) {}

  int run() {
    try {
      work();
    } catch (const Error& error) {
      report_failure(error.what());
      // No destructors, no MPI_Finalize: both may block on the broken communicator.
      _exit(kFailed);
    }
    return 0;
  }

 private:
  void work() {
    take_epoch();
    require_inter_site_mpi();
    const double start_s = monotonic_s();
    form();
    pulse_.emplace(communicator_, kPulseInterval_s, deadline_s_);
    tell(Formed{epoch_.epoch, monotonic_s() - start_s});
    while (!stop_) {
      wait_for_command();
      pulse_->step();
      if (const auto rank = pulse_->silent())
        fail(ExitCode::io, "member {} silent for {} s", name(*rank), deadline_s_);
      if (order_ && pulse_->announced_by(order_->ranks, order_->digest)) exchange();
    }
    // Never MPI_Comm_disconnect: between separately started jobs it hangs for ever in Open MPI 4.1.
    check_mpi(MPI_Barrier(communicator_), "MPI_Barrier");
    check_mpi(MPI_Comm_free(&communicator_), "MPI_Comm_free");
    MPI_Finalize();
    tell(Stopped{epoch_.epoch});
    flush();
  }

  void take_epoch() {
    std::optional<std::string> line;
    while (!(line = control_.next_line())) {
      if (control_.closed()) fail(ExitCode::io, "courier gone before the epoch was named");
      pollfd entry = {control_.descriptor(), control_.events(), 0};
      poll(&entry, 1, -1);
      control_.on_ready();
    }
    epoch_ = std::get<Epoch>(decode(*line));
  }

  // All members end up in one communicator, ranked as in the epoch: member 0 begins alone; member s = 1, 2, …
  // connects to what members 0 … s − 1 have formed, and is merged into it.
  void form() {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    ignore_stop_signals();  // libraries of MPI may have taken them
    for (MPI_Comm communicator : {MPI_COMM_WORLD, MPI_COMM_SELF})
      check_mpi(MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_dup(MPI_COMM_SELF, &communicator_), "MPI_Comm_dup");
    const int size = static_cast<int>(epoch_.members.size());
    for (int step = std::max(1, epoch_.index); step < size; ++step) join(step);
    int rank = -1, joined = 0;
    check_mpi(MPI_Comm_rank(communicator_, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(communicator_, &joined), "MPI_Comm_size");
    if (rank != epoch_.index || joined != size)
      fail(ExitCode::internal, "formed rank {} of {} instead of {} of {}", rank, joined, epoch_.index, size);
    check_mpi(MPI_Barrier(communicator_), "MPI_Barrier");
  }

  void join(int step) {
    const std::string service =
        fmt::format("spillway-epoch{}-stream{}-member{}", epoch_.epoch, epoch_.stream, step);
    char port[MPI_MAX_PORT_NAME] = "";
    MPI_Comm bridge = MPI_COMM_NULL, merged = MPI_COMM_NULL;
    const bool joining = epoch_.index == step;
    if (joining) {
      while (MPI_Lookup_name(service.c_str(), MPI_INFO_NULL, port) != MPI_SUCCESS)
        std::this_thread::sleep_for(kLookupPause);  // not yet published; the hub limits the time
      check_mpi(MPI_Comm_connect(port, MPI_INFO_NULL, 0, communicator_, &bridge), "MPI_Comm_connect");
    } else {
      if (epoch_.index == 0) {
        check_mpi(MPI_Open_port(MPI_INFO_NULL, port), "MPI_Open_port");
        check_mpi(MPI_Publish_name(service.c_str(), MPI_INFO_NULL, port), "MPI_Publish_name");
      }
      check_mpi(MPI_Comm_accept(port, MPI_INFO_NULL, 0, communicator_, &bridge), "MPI_Comm_accept");
    }
    check_mpi(MPI_Intercomm_merge(bridge, joining ? 1 : 0, &merged), "MPI_Intercomm_merge");
    check_mpi(MPI_Comm_free(&bridge), "MPI_Comm_free");
    check_mpi(MPI_Comm_free(&communicator_), "MPI_Comm_free");
    communicator_ = merged;
    check_mpi(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }

  void wait_for_command() {
    pollfd entry = {control_.descriptor(), control_.events(), 0};
    poll(&entry, 1, kIdlePoll_ms);
    read_commands();
  }

  void read_commands() {
    control_.on_ready();
    while (const auto line = control_.next_line()) {
      const Message message = decode(*line);
      if (const auto* go = std::get_if<Go>(&message))
        take(*go, *line, ranks_from(go->root, static_cast<int>(epoch_.members.size())));
      else if (const auto* sync = std::get_if<Sync>(&message))
        take(*sync, *line, participants(*sync));
      else if (std::holds_alternative<Stop>(message))
        stop_ = true;
      else
        fail(ExitCode::internal, "not a command for a gateway: {}", line->substr(0, 80));
    }
    if (control_.closed()) fail(ExitCode::io, "courier gone: {}", control_.reason());
  }

  static std::vector<int> participants(const Sync& sync) {
    std::vector<int> ranks = {sync.root};
    ranks.insert(ranks.end(), sync.targets.begin(), sync.targets.end());
    return ranks;
  }

  void take(std::variant<Go, Sync> command, const std::string& line, std::vector<int> ranks) {
    if (const auto* go = std::get_if<Go>(&command); go && go->weights.size() != epoch_.members.size())
      fail(ExitCode::internal, "{} weights for {} members", go->weights.size(), epoch_.members.size());
    for (const int rank : ranks)
      if (rank >= static_cast<int>(epoch_.members.size()))
        fail(ExitCode::internal, "rank {} of {} members", rank, epoch_.members.size());
    // Members with models of different sizes must not exchange.
    const std::string agreed =
        fmt::format("{} {} {}", line, mailbox_.parameter_count(), mailbox_.optimizer_state().size());
    const auto digest = std::stoull(xxh3_hex({bytes_of(agreed)}).substr(0, 16), nullptr, 16) | 1;
    order_ = Order{std::move(command), std::move(ranks), digest};
    pulse_->announce(order_->digest);
  }

  void exchange() {
    const Order order = *std::exchange(order_, std::nullopt);
    ExchangeOptions options;
    options.deadline_s = deadline_s_;
    options.assistant = available_processors() >= 2 * epoch_.streams;
    options.staging = &staging_;
    options.abort = [this, calls = 0]() mutable {
      if (++calls % kPollEvery == 0) {
        pulse_->step();
        read_commands();
      }
      return false;
    };
    const double start_s = monotonic_s();
    std::int64_t round = 0;
    if (const auto* go = std::get_if<Go>(&order.command)) {
      round = go->round;
      const float weight = static_cast<float>(go->weights[static_cast<std::size_t>(epoch_.index)]);
      if (go->merge == "adopt")
        chain_broadcast(part(mailbox_.contribution()), go->root, {order.ranks.begin() + 1, order.ranks.end()},
                        communicator_, options);
      else
        merge(*go, weight, options);
    } else {
      const auto& sync = std::get<Sync>(order.command);
      chain_broadcast(part(mailbox_.contribution()), sync.root, sync.targets, communicator_, options);
      chain_broadcast(part(mailbox_.velocity()), sync.root, sync.targets, communicator_, options);
    }
    // A command that arrived meanwhile has been announced already.
    if (!order_) pulse_->announce(0);
    pulse_->forgive();
    tell(Exchanged{epoch_.epoch, round, monotonic_s() - start_s});
  }

  void merge(const Go& go, float weight, const ExchangeOptions& options) {
    const WireFormat format = parse_wire_format(go.wire);
    ring_weighted_sum(part(mailbox_.contribution()), weight, communicator_, options,
                      {format, format == WireFormat::int8 ? part(mailbox_.feedback()) : std::span<float>()});
    ring_weighted_sum(part(mailbox_.optimizer_state()), weight, communicator_, options,
                      {optimizer_state_format(format), {}});
  }

  std::span<float> part(std::span<float> vector) const {
    return part_of(vector, epoch_.stream, epoch_.streams);
  }

  const std::string& name(int rank) const { return epoch_.members[static_cast<std::size_t>(rank)]; }

  void tell(const Message& message) { control_.send(encode(message)); }

  void flush() {
    const double end_s = monotonic_s() + kFarewell_s;
    while (control_.open() && !control_.flushed() && monotonic_s() < end_s) {
      pollfd entry = {control_.descriptor(), control_.events(), 0};
      poll(&entry, 1, 10);
      control_.on_ready();
    }
  }

  void report_failure(std::string reason) {
    for (char& c : reason)
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    const auto suspect = pulse_ ? pulse_->silent() : std::nullopt;
    tell(Fail{epoch_.epoch, reason.substr(0, 500), suspect ? name(*suspect) : ""});
    flush();
  }

  LineSocket control_;
  Mailbox mailbox_;
  Staging staging_;
  double deadline_s_;
  Epoch epoch_;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::optional<Pulse> pulse_;
  std::optional<Order> order_;
  bool stop_ = false;
};

}  // namespace

int run_gateway(const FederationConfig& config) {
  ignore_stop_signals();
  // The singleton's helper daemon must not inherit them: it would hold the connection open after this process.
  for (const int number : {kControlDescriptor, kMailboxDescriptor}) fcntl(number, F_SETFD, FD_CLOEXEC);
  return Gateway(LineSocket(Descriptor(kControlDescriptor)), Mailbox::attach(Descriptor(kMailboxDescriptor)),
                 config.exchange_deadline_s)
      .run();
}

}  // namespace spillway
