#include "comm/site.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <vector>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr int kSpins = 500;
constexpr auto kShortNap = std::chrono::microseconds(50);
constexpr auto kLongNap = std::chrono::microseconds(1000);
constexpr int kShortNaps = 200;  // 10 ms of waiting, then the long naps

constexpr std::int64_t kMessageFloats = 1 << 18;  // 1 MiB: added up while it is in the cache
constexpr std::size_t kBroadcastBytes = std::size_t{1} << 30;
constexpr int kTagCount = 30'000;  // MPI guarantees tags up to 32767

// The parts of `values` that one rank owns, cut into messages. Sender and receiver cut them alike.
std::vector<std::span<float>> messages_of(std::span<float> values, std::span<const OwnedPart> parts,
                                          int owner) {
  std::vector<std::span<float>> messages;
  for (const OwnedPart& part : parts) {
    if (part.owner != owner) continue;
    for (std::int64_t first = part.begin; first < part.end; first += kMessageFloats)
      messages.push_back(
          values.subspan(static_cast<std::size_t>(first),
                         static_cast<std::size_t>(std::min(kMessageFloats, part.end - first))));
  }
  return messages;
}

int count_of(std::span<const float> message) { return static_cast<int>(message.size()); }
int tag_of(std::size_t message) { return static_cast<int>(message % kTagCount); }

}  // namespace

MpiSession::MpiSession() {
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() == 0) MPI_Finalize();
}

SiteComm::SiteComm(MPI_Comm ranks) {
  check_mpi(MPI_Comm_dup(ranks, &communicator_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(communicator_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(communicator_, &size_), "MPI_Comm_size");
  check_mpi(MPI_Comm_split_type(communicator_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node_),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_rank(node_, &node_rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(node_, &node_size_), "MPI_Comm_size");
  nodes_ = static_cast<int>(sum(node_leader() ? 1 : 0));
}

SiteComm::~SiteComm() {
  if (std::uncaught_exceptions() != 0) return;
  MPI_Comm_free(&node_);
  MPI_Comm_free(&communicator_);
}

void SiteComm::wait(MPI_Request& request) {
  int done = 0;
  for (int tries = 0; !done; ++tries) {
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (!done && tries > kSpins)
      std::this_thread::sleep_for(tries < kSpins + kShortNaps ? kShortNap : kLongNap);
  }
}

void SiteComm::wait(std::vector<MPI_Request>& requests) {
  for (MPI_Request& request : requests) wait(request);
  requests.clear();
}

// In turn s a rank sends its summands to the owner s ranks after it and adds those of the rank s before it.
void SiteComm::sum_to_owners(std::span<float> values, std::span<const OwnedPart> parts) {
  if (size_ == 1) return;
  const auto own = messages_of(values, parts, rank_);
  std::vector<float> staging[2];
  for (std::vector<float>& buffer : staging) buffer.resize(static_cast<std::size_t>(kMessageFloats));
  for (int turn = 1; turn < size_; ++turn) {
    const int to = (rank_ + turn) % size_, from = (rank_ - turn + size_) % size_;
    const auto outgoing = messages_of(values, parts, to);
    std::vector<MPI_Request> sent(outgoing.size());
    for (std::size_t i = 0; i < outgoing.size(); ++i)
      check_mpi(MPI_Isend(outgoing[i].data(), count_of(outgoing[i]), MPI_FLOAT, to, tag_of(i), communicator_,
                          &sent[i]),
                "MPI_Isend");
    MPI_Request received[2];
    const auto receive = [&](std::size_t i) {
      check_mpi(MPI_Irecv(staging[i % 2].data(), count_of(own[i]), MPI_FLOAT, from, tag_of(i), communicator_,
                          &received[i % 2]),
                "MPI_Irecv");
    };
    if (!own.empty()) receive(0);
    for (std::size_t i = 0; i < own.size(); ++i) {
      if (i + 1 < own.size()) receive(i + 1);
      wait(received[i % 2]);
      for (std::size_t j = 0; j < own[i].size(); ++j) own[i][j] += staging[i % 2][j];
    }
    wait(sent);
  }
}

void SiteComm::share_from_owners(std::span<float> values, std::span<const OwnedPart> parts) {
  const auto own = messages_of(values, parts, rank_);
  std::vector<MPI_Request> requests;
  for (int turn = 1; turn < size_; ++turn) {
    const int to = (rank_ + turn) % size_, from = (rank_ - turn + size_) % size_;
    const auto incoming = messages_of(values, parts, from);
    for (std::size_t i = 0; i < incoming.size(); ++i)
      check_mpi(MPI_Irecv(incoming[i].data(), count_of(incoming[i]), MPI_FLOAT, from, tag_of(i),
                          communicator_, &requests.emplace_back()),
                "MPI_Irecv");
    for (std::size_t i = 0; i < own.size(); ++i)
      check_mpi(MPI_Isend(own[i].data(), count_of(own[i]), MPI_FLOAT, to, tag_of(i), communicator_,
                          &requests.emplace_back()),
                "MPI_Isend");
  }
  wait(requests);
}

std::vector<SiteComm::Extent> SiteComm::extents_on(int root, std::int64_t first, std::size_t count) {
  const Extent mine = {first, static_cast<std::int64_t>(count)};
  std::vector<Extent> all(static_cast<std::size_t>(size_));
  MPI_Request request;
  check_mpi(MPI_Igather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, root, communicator_,
                        &request),
            "MPI_Igather");
  wait(request);
  return all;
}

void SiteComm::gather(int to, std::span<const float> part, std::int64_t first, std::span<float> whole) {
  const auto extents = extents_on(to, first, part.size());
  std::vector<MPI_Request> requests;
  if (rank_ == to) {
    if (part.data() != whole.data() + first) std::copy(part.begin(), part.end(), whole.begin() + first);
    for (int from = 0; from < size_; ++from) {
      if (from == to) continue;
      const Extent& extent = extents[static_cast<std::size_t>(from)];
      check_mpi(MPI_Irecv(whole.data() + extent.first, static_cast<int>(extent.count), MPI_FLOAT, from, 0,
                          communicator_, &requests.emplace_back()),
                "MPI_Irecv");
    }
  } else {
    check_mpi(
        MPI_Isend(part.data(), count_of(part), MPI_FLOAT, to, 0, communicator_, &requests.emplace_back()),
        "MPI_Isend");
  }
  wait(requests);
}

void SiteComm::scatter_from_leader(std::span<const float> whole, std::int64_t first, std::span<float> part) {
  const auto extents = extents_on(0, first, part.size());
  std::vector<MPI_Request> requests;
  if (leader()) {
    std::copy_n(whole.begin() + first, part.size(), part.begin());
    for (int to = 1; to < size_; ++to) {
      const Extent& extent = extents[static_cast<std::size_t>(to)];
      check_mpi(MPI_Isend(whole.data() + extent.first, static_cast<int>(extent.count), MPI_FLOAT, to, 0,
                          communicator_, &requests.emplace_back()),
                "MPI_Isend");
    }
  } else {
    check_mpi(
        MPI_Irecv(part.data(), count_of(part), MPI_FLOAT, 0, 0, communicator_, &requests.emplace_back()),
        "MPI_Irecv");
  }
  wait(requests);
}

double SiteComm::reduce(double value, MPI_Op operation) {
  double result = value;
  MPI_Request request;
  check_mpi(MPI_Iallreduce(&value, &result, 1, MPI_DOUBLE, operation, communicator_, &request),
            "MPI_Iallreduce");
  wait(request);
  return result;
}

double SiteComm::max(double value) { return reduce(value, MPI_MAX); }
double SiteComm::min(double value) { return reduce(value, MPI_MIN); }
bool SiteComm::any(bool value) { return reduce(value ? 1 : 0, MPI_MAX) > 0; }
bool SiteComm::all(bool value) { return reduce(value ? 1 : 0, MPI_MIN) > 0; }

double SiteComm::sum(double value) {
  sum(std::span(&value, 1));
  return value;
}

void SiteComm::sum(std::span<double> values) {
  const auto count = static_cast<int>(values.size());
  std::vector<double> parts(values.size() * static_cast<std::size_t>(size_));
  MPI_Request request;
  check_mpi(MPI_Iallgather(values.data(), count, MPI_DOUBLE, parts.data(), count, MPI_DOUBLE, communicator_,
                           &request),
            "MPI_Iallgather");
  wait(request);
  std::fill(values.begin(), values.end(), 0.0);
  for (std::size_t i = 0; i < parts.size(); ++i) values[i % values.size()] += parts[i];
}

std::vector<std::string> SiteComm::gather_on_node(const std::string& text) {
  constexpr std::size_t bytes = 64;
  std::string own = text.substr(0, bytes - 1);
  own.resize(bytes, '\0');
  std::string all(bytes * static_cast<std::size_t>(node_size_), '\0');
  MPI_Request request;
  check_mpi(MPI_Iallgather(own.data(), bytes, MPI_CHAR, all.data(), bytes, MPI_CHAR, node_, &request),
            "MPI_Iallgather");
  wait(request);
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < all.size(); at += bytes) texts.emplace_back(all.c_str() + at);
  return texts;
}

void SiteComm::barrier() {
  MPI_Request request;
  check_mpi(MPI_Ibarrier(communicator_, &request), "MPI_Ibarrier");
  wait(request);
}

void SiteComm::broadcast_bytes(std::span<std::byte> bytes) {
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kBroadcastBytes))) {
    const std::span<std::byte> piece = bytes.first(std::min(bytes.size(), kBroadcastBytes));
    MPI_Request request;
    check_mpi(MPI_Ibcast(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, 0, communicator_, &request),
              "MPI_Ibcast");
    wait(request);
  }
}

}  // namespace spillway
