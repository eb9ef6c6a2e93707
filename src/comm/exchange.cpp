#include "comm/exchange.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "comm/assistant.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr int kTagCount = 30'000;  // MPI guarantees tags up to 32767
constexpr int kSpins = 200;        // unsuccessful tests before the loop sleeps
constexpr auto kNap = std::chrono::microseconds(50);
constexpr std::size_t kPage = 1024;  // floats
// A ring's step should have so many segments: its first ones are summed while the last ones travel. Shorter ones than
// kShortest cost more than that gains.
constexpr std::int64_t kSegmentsPerStep = 24, kShortest = 64 * kPage;
constexpr std::size_t kPiece = 8192;  // floats: a multiple of what a block of any WireFormat has

// Up to `window` requests in flight, completed in the order they were started.
class RequestWindow {
 public:
  explicit RequestWindow(int size) : requests_(static_cast<std::size_t>(size), MPI_REQUEST_NULL) {}

  bool full() const { return started_ - completed_ == static_cast<std::int64_t>(requests_.size()); }
  std::int64_t started() const { return started_; }
  std::int64_t completed() const { return completed_; }
  // The request for the next message; the caller starts it.
  MPI_Request* start() { return &requests_[slot(started_++)]; }
  // Whether the oldest one has arrived; then it counts as completed.
  bool complete_oldest() {
    if (completed_ == started_) return false;
    int done = 0;
    check_mpi(MPI_Test(&requests_[slot(completed_)], &done, MPI_STATUS_IGNORE), "MPI_Test");
    completed_ += done;
    return done != 0;
  }
  std::size_t slot(std::int64_t index) const { return static_cast<std::size_t>(index) % requests_.size(); }

 private:
  std::vector<MPI_Request> requests_;
  std::int64_t started_ = 0, completed_ = 0;
};

// Gives up when nothing moves, and gives the processor away while waiting.
class Patience {
 public:
  Patience(const ExchangeOptions& options, int waiting_for)
      : options_(options), waiting_for_(waiting_for), last_s_(monotonic_s()) {}

  void after_round(bool progress) {
    if (options_.abort && options_.abort()) fail(ExitCode::io, "exchange: aborted");
    if (progress) {
      last_s_ = monotonic_s();
      idle_ = 0;
    } else if (++idle_ > kSpins) {
      if (options_.deadline_s > 0 && monotonic_s() - last_s_ > options_.deadline_s)
        fail(ExitCode::io, "exchange: no progress for {} s while receiving from rank {}", options_.deadline_s,
             waiting_for_);
      std::this_thread::sleep_for(kNap);
    }
  }

 private:
  const ExchangeOptions& options_;
  int waiting_for_;
  double last_s_;
  int idle_ = 0;
};

int rank_of(MPI_Comm communicator) {
  int rank = 0;
  check_mpi(MPI_Comm_rank(communicator, &rank), "MPI_Comm_rank");
  return rank;
}

int size_of(MPI_Comm communicator) {
  int size = 0;
  check_mpi(MPI_Comm_size(communicator, &size), "MPI_Comm_size");
  return size;
}

void scale(std::span<float> values, float factor) {
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= factor;
}

void add(std::span<float> values, std::span<const float> addends) {
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += addends[i];
}

void subtract(std::span<float> values, std::span<const float> subtrahends) {
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= subtrahends[i];
}

// values = weight · values + feedback; a weight of 0 clears even what is not a number.
void weigh(std::span<float> values, float weight, std::span<const float> feedback) {
  if (weight == 0)
    std::fill(values.begin(), values.end(), 0.0f);
  else if (weight != 1)
    scale(values, weight);
  add(values.first(feedback.size()), feedback);
}

// Calls work(first, count) for pieces that stay in the processor's caches between the passes over them.
template <class Work>
void by_pieces(std::size_t count, const Work& work) {
  for (std::size_t first = 0; first < count; first += kPiece) work(first, std::min(kPiece, count - first));
}

// The ring's order of work. Block b of the vector starts at member b and travels round the ring twice: N − 1 hops
// in which each member adds its own part, then N − 1 hops that hand the sum to everybody. A member does
// 2·(N−1) steps; in step s it sends block rank − s and receives block rank − s − 1, segment by segment.
//
// What is to be computed is done in order by the assistant: take() of a message that has been received, prepare() of one
// that is to be sent. Only counters tell how far it is: a message is sent once it is prepared, and received once the one
// that was in its place before has been taken.
//
// fp32 is sent from and, once it is the sum, received into the vector itself. Other formats pass through staging
// buffers. In steps 0 … N − 1 a member sends each block once that no other has sent in this form: there it rounds, and
// keeps what it rounds off as feedback. In the later steps it passes a sum on; encoding that again changes nothing.
class Ring {
 public:
  Ring(std::span<float> values, float weight, MPI_Comm communicator, const ExchangeOptions& options,
       const RingWire& wire, Staging& staging)
      : values_(values),
        weight_(weight),
        communicator_(communicator),
        wire_(wire),
        direct_(wire.format == WireFormat::fp32),
        size_(size_of(communicator)),
        rank_(rank_of(communicator)),
        block_((static_cast<std::int64_t>(values.size()) + size_ - 1) / size_),
        segment_(std::min(options.segment_floats, segment_for(block_))),
        segment_bytes_(wire_bytes(wire.format, segment_)),
        segments_per_step_((block_ + segment_ - 1) / segment_),
        total_(2 * (size_ - 1) * segments_per_step_),
        window_(static_cast<int>(options.window * options.segment_floats *
                                 static_cast<std::int64_t>(sizeof(float)) / segment_bytes_)),
        received_(window_),
        sent_(window_),
        incoming_staging_(
            staging.take(static_cast<std::size_t>((direct_ ? 1 : 2) * window_ * segment_bytes_))),
        outgoing_staging_(direct_ ? nullptr : incoming_staging_ + window_ * segment_bytes_),
        sum_(kPiece),
        patience_(options, previous()),
        assistant_(options.assistant) {}

  void run() {
    std::int64_t known = 0;  // of taken_
    while (known < total_ || sent_.completed() < total_) {
      bool progress = taken_ > known;
      known = taken_;
      while (received_.started() < std::min(total_, known + window_)) post_receive();
      for (bool more = true; more;) {
        more = may_prepare();
        if (more) order_prepare();
        while (sent_.started() < prepared_) post_send();
      }
      while (received_.complete_oldest()) {
        order_take();
        progress = true;
      }
      while (sent_.complete_oldest()) progress = true;
      patience_.after_round(progress);
    }
  }

 private:
  static std::int64_t segment_for(std::int64_t block) {
    const std::int64_t pages = block / kSegmentsPerStep / static_cast<std::int64_t>(kPage);
    return std::max(kShortest, pages * static_cast<std::int64_t>(kPage));
  }
  int next() const { return (rank_ + 1) % size_; }
  int previous() const { return (rank_ + size_ - 1) % size_; }
  int step(std::int64_t message) const { return static_cast<int>(message / segments_per_step_); }
  bool reducing(std::int64_t message) const { return step(message) < size_ - 1; }

  // The segment of a vector like values_ that a message carries: sent, or received.
  std::span<float> outgoing(std::span<float> vector, std::int64_t message) const {
    return segment(vector, (rank_ - step(message) + 2 * size_) % size_, message);
  }
  std::span<float> incoming(std::span<float> vector, std::int64_t message) const {
    return segment(vector, (rank_ - 1 - step(message) + 2 * size_) % size_, message);
  }
  std::span<float> segment(std::span<float> vector, std::int64_t block, std::int64_t message) const {
    const auto n = static_cast<std::int64_t>(vector.size());
    const std::int64_t end = std::min(n, (block + 1) * block_);
    const std::int64_t first = std::min(end, block * block_ + message % segments_per_step_ * segment_);
    return vector.subspan(static_cast<std::size_t>(first),
                          static_cast<std::size_t>(std::min(segment_, end - first)));
  }
  int bytes(std::span<const float> part) const {
    return static_cast<int>(wire_bytes(wire_.format, static_cast<std::int64_t>(part.size())));
  }
  // Where a message is received.
  std::byte* landing(std::int64_t message) const {
    if (direct_ && !reducing(message)) return reinterpret_cast<std::byte*>(incoming(values_, message).data());
    return incoming_staging_ + static_cast<std::int64_t>(received_.slot(message)) * segment_bytes_;
  }

  void post_receive() {
    const std::int64_t message = received_.started();
    check_mpi(MPI_Irecv(landing(message), bytes(incoming(values_, message)), MPI_BYTE, previous(),
                        static_cast<int>(message % kTagCount), communicator_, received_.start()),
              "MPI_Irecv");
  }

  void order_take() {
    assistant_.submit([this, message = received_.completed() - 1] {
      take(message);
      ++taken_;
    });
  }

  // What a step sends is what the step before received; the first step sends this member's own block. The place in which
  // it is prepared must be free.
  bool may_prepare() const {
    return prepare_ordered_ < std::min(total_, sent_.completed() + window_) &&
           prepare_ordered_ - segments_per_step_ < received_.completed();
  }

  void order_prepare() {
    assistant_.submit([this, message = prepare_ordered_++] {
      prepare(message);
      ++prepared_;
    });
  }

  void prepare(std::int64_t message) {
    if (step(message) == 0) weigh(outgoing(values_, message), weight_, outgoing(wire_.feedback, message));
    if (!direct_) encode(message);
  }

  // Where a message is sent from.
  std::byte* departure(std::int64_t message) const {
    if (direct_) return reinterpret_cast<std::byte*>(outgoing(values_, message).data());
    return outgoing_staging_ + static_cast<std::int64_t>(sent_.slot(message)) * segment_bytes_;
  }

  void post_send() {
    const std::int64_t message = sent_.started();
    check_mpi(MPI_Isend(departure(message), bytes(outgoing(values_, message)), MPI_BYTE, next(),
                        static_cast<int>(message % kTagCount), communicator_, sent_.start()),
              "MPI_Isend");
  }

  void encode(std::int64_t message) {
    const std::span<float> source = outgoing(values_, message);
    std::byte* buffer = departure(message);
    const std::span<float> feedback = outgoing(wire_.feedback, message);
    const bool passed_on = step(message) >= size_;
    const bool rounds = !passed_on && (!feedback.empty() || !reducing(message));
    by_pieces(source.size(), [&](std::size_t first, std::size_t count) {
      const std::span<float> part = source.subspan(first, count);
      std::byte* to = buffer + bytes(source.first(first));
      wire_encode(wire_.format, part, to);
      if (!rounds) return;
      // The sum itself must be here what the others decode.
      const std::span<float> kept = feedback.empty() ? feedback : feedback.subspan(first, count);
      std::copy_n(part.begin(), kept.size(), kept.begin());
      wire_decode(wire_.format, to, part);
      subtract(kept, part);
    });
  }

  void take(std::int64_t message) {
    if (direct_ && !reducing(message)) return;  // it was received in place
    const std::span<float> target = incoming(values_, message);
    if (!reducing(message)) return wire_decode(wire_.format, landing(message), target);
    const std::span<float> feedback = incoming(wire_.feedback, message);
    by_pieces(target.size(), [&](std::size_t first, std::size_t count) {
      const std::span<float> part = target.subspan(first, count), sum = std::span(sum_).first(count);
      weigh(part, weight_, feedback.empty() ? feedback : feedback.subspan(first, count));
      wire_decode(wire_.format, landing(message) + bytes(target.first(first)), sum);
      add(part, sum);
    });
  }

  std::span<float> values_;
  float weight_;
  MPI_Comm communicator_;
  RingWire wire_;
  bool direct_;
  std::int64_t size_, rank_;
  std::int64_t block_, segment_, segment_bytes_, segments_per_step_, total_;
  int window_;
  RequestWindow received_, sent_;
  std::byte *incoming_staging_, *outgoing_staging_;
  std::vector<float> sum_;  // a piece of a segment, decoded
  Patience patience_;
  std::int64_t prepare_ordered_ = 0;
  std::atomic<std::int64_t> prepared_ = 0, taken_ = 0;  // messages that the assistant is done with
  Assistant assistant_;                                 // last: it ends before what it works on
};

}  // namespace

std::span<float> part_of(std::span<float> values, int part, int parts) {
  const std::size_t pages = (values.size() + kPage - 1) / kPage;
  const auto boundary = [&](int number) {
    const auto before = pages * static_cast<std::size_t>(number) / static_cast<std::size_t>(parts);
    return std::min(values.size(), before * kPage);
  };
  return values.subspan(boundary(part), boundary(part + 1) - boundary(part));
}

void ring_weighted_sum(std::span<float> values, float weight, MPI_Comm communicator,
                       const ExchangeOptions& options, RingWire wire) {
  SPILLWAY_CHECK(options.segment_floats > 0 && options.window > 0);
  SPILLWAY_CHECK(wire.feedback.empty() || wire.feedback.size() == values.size());
  if (values.empty()) return;
  if (size_of(communicator) == 1) return weigh(values, weight, {});
  auto own = options.staging == nullptr ? std::make_unique<Staging>() : nullptr;
  try {
    Ring(values, weight, communicator, options, wire, own ? *own : *options.staging).run();
  } catch (...) {
    (void)own.release();  // messages may still arrive in it, and the process is about to end
    throw;
  }
}

std::byte* Staging::take(std::size_t bytes) {
  if (size_ < bytes) {
    memory_.reset(new std::byte[bytes]);  // not zeroed
    size_ = bytes;
  }
  return memory_.get();
}

void chain_broadcast(std::span<float> values, int root, const std::vector<int>& targets,
                     MPI_Comm communicator, const ExchangeOptions& options) {
  SPILLWAY_CHECK(options.segment_floats > 0 && options.window > 0);
  std::vector<int> chain = {root};
  chain.insert(chain.end(), targets.begin(), targets.end());
  const auto self = std::find(chain.begin(), chain.end(), rank_of(communicator));
  if (self == chain.end()) return;
  const bool receives = self != chain.begin();
  const bool sends = std::next(self) != chain.end();
  const int source = receives ? *std::prev(self) : root;
  const int target = sends ? *std::next(self) : root;

  const auto n = static_cast<std::int64_t>(values.size());
  const std::int64_t total = (n + options.segment_floats - 1) / options.segment_floats;
  const auto segment = [&](std::int64_t index) {
    const std::int64_t first = index * options.segment_floats;
    return values.subspan(static_cast<std::size_t>(first),
                          static_cast<std::size_t>(std::min(options.segment_floats, n - first)));
  };
  RequestWindow received(options.window), sent(options.window);
  Patience patience(options, receives ? source : target);
  while ((receives && received.completed() < total) || (sends && sent.completed() < total)) {
    while (receives && received.started() < total && !received.full()) {
      const std::int64_t index = received.started();
      const auto part = segment(index);
      check_mpi(MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_FLOAT, source,
                          static_cast<int>(index % kTagCount), communicator, received.start()),
                "MPI_Irecv");
    }
    while (sends && sent.started() < (receives ? received.completed() : total) && !sent.full()) {
      const std::int64_t index = sent.started();
      const auto part = segment(index);
      check_mpi(MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_FLOAT, target,
                          static_cast<int>(index % kTagCount), communicator, sent.start()),
                "MPI_Isend");
    }
    bool progress = false;
    while (received.complete_oldest()) progress = true;
    while (sent.complete_oldest()) progress = true;
    patience.after_round(progress);
  }
}

}  // namespace spillway
