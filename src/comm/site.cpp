#include "comm/site.hpp"

#include <algorithm>
#include <chrono>
#include <climits>
#include <exception>
#include <thread>
#include <vector>

#include "comm/exchange.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr int kSpins = 500;
constexpr auto kShortNap = std::chrono::microseconds(50);
constexpr auto kLongNap = std::chrono::microseconds(1000);
constexpr int kShortNaps = 200;  // 10 ms of waiting, then the long naps

}  // namespace

MpiSession::MpiSession() {
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() == 0) MPI_Finalize();
}

SiteComm::SiteComm() {
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &communicator_), "MPI_Comm_dup");
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

void SiteComm::average(std::span<float> values) {
  if (size_ == 1) return;
  ExchangeOptions options;
  options.segment_floats = 1 << 16;  // 256 KiB: ranks of one host add out of the cache
  ring_weighted_sum(values, 1.0f, communicator_, options);
  const auto factor = static_cast<float>(1.0 / size_);
  for (float& value : values) value *= factor;
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
  SPILLWAY_CHECK(bytes.size() <= INT_MAX);
  MPI_Request request;
  check_mpi(MPI_Ibcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, communicator_, &request),
            "MPI_Ibcast");
  wait(request);
}

}  // namespace spillway
