#include "comm/exchange.hpp"

#include <fmt/core.h>
#include <sys/resource.h>

#include <cmath>
#include <limits>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/rng.hpp"
#include "tests/catch.hpp"
#include "tests/mpi/ranks.hpp"

using namespace spillway;

namespace {

constexpr std::uint64_t kSeed = 7;

float element(int rank, std::size_t i) { return normal01(kSeed, static_cast<std::uint64_t>(rank), i); }

std::vector<float> vector_of(int rank, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = element(rank, i);
  return values;
}

bool same_on_all_ranks(const std::vector<float>& values) {
  const std::string own = xxh3_hex({bytes_of(values)});
  char leaders[32];
  std::copy(own.begin(), own.end(), leaders);
  ranks().broadcast(leaders);
  return ranks().all(std::string(leaders, 32) == own);
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("parts share out a vector by whole pages") {
  const int count = GENERATE(0, 1, 1023, 1024, 1025, 5000, 100'003), parts = GENERATE(1, 2, 3, 16);
  INFO(count << " values, " << parts << " parts");
  std::vector<float> values(static_cast<std::size_t>(count));
  const float* end = values.data();
  for (int part = 0; part < parts; ++part) {
    const auto span = part_of(values, part, parts);
    CHECK(span.data() == end);
    end += span.size();
    if (end != values.data() + count) CHECK(span.size() % 1024 == 0);
    CHECK(std::abs(static_cast<double>(span.size()) - static_cast<double>(count) / parts) <= 1024);
  }
  CHECK(end == values.data() + count);
}

TEST_CASE("the ring gives the weighted sum, the same bits everywhere") {
  const int size = ranks().size();
  const std::size_t count = GENERATE(as<std::size_t>{}, 0, 1, 2, 3, 5, 64, 1000, 100'003);
  const int window = GENERATE(1, 3, 8);
  INFO("seed " << kSeed << ", " << count << " values, window " << window);
  std::vector<float> weights;
  for (int r = 0; r < size; ++r) weights.push_back(static_cast<float>(r + 1) / (0.5f * size * (size + 1)));

  auto values = vector_of(ranks().rank(), count);
  ExchangeOptions options;
  options.segment_floats = 1000;
  options.window = window;
  ring_weighted_sum(values, weights[static_cast<std::size_t>(ranks().rank())], MPI_COMM_WORLD, options);

  CHECK(same_on_all_ranks(values));
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    double expected = 0;
    for (int r = 0; r < size; ++r) expected += double{weights[static_cast<std::size_t>(r)]} * element(r, i);
    worst = std::max(worst, std::abs(expected - values[i]));
  }
  CHECK(worst < 2e-6);
}

TEST_CASE("repeats of the ring give the same bits") {
  const auto average = [] {
    auto values = vector_of(ranks().rank(), 50'001);
    ExchangeOptions options;
    options.segment_floats = 512;
    ring_weighted_sum(values, 0.3f, MPI_COMM_WORLD, options);
    return xxh3_hex({bytes_of(values)});
  };
  CHECK(average() == average());
}

TEST_CASE("an assistant and staging that is kept change no bit of any sum") {
  const auto format = GENERATE(WireFormat::fp32, WireFormat::bf16, WireFormat::int8);
  const int window = GENERATE(1, 2, 8);
  INFO("format " << static_cast<int>(format) << ", window " << window);
  Staging staging;
  // Of a few sums one after the other, of vectors of different lengths, each with the feedback of the one before.
  const auto digest = [&](bool assistant, Staging* kept) {
    std::vector<float> feedback;
    std::string text;
    for (const std::size_t count : {30'001, 777, 30'001, 64'000}) {
      auto values = vector_of(ranks().rank(), count);
      if (format == WireFormat::int8) feedback.resize(count, 0.0f);
      ExchangeOptions options;
      options.segment_floats = 512;
      options.window = window;
      options.assistant = assistant;
      options.staging = kept;
      ring_weighted_sum(values, 0.3f, MPI_COMM_WORLD, options, {format, feedback});
      CHECK(same_on_all_ranks(values));
      text += xxh3_hex({bytes_of(values), bytes_of(feedback)});
    }
    return text;
  };
  const std::string plain = digest(false, nullptr);
  CHECK(digest(true, nullptr) == plain);
  CHECK(digest(false, &staging) == plain);
  CHECK(digest(true, &staging) == plain);
}

TEST_CASE("staging is the same memory as long as it suffices") {
  Staging staging;
  std::byte* const first = staging.take(1000);
  CHECK(staging.take(10) == first);
  CHECK(staging.take(1000) == first);
  std::fill_n(staging.take(1 << 20), 1 << 20, std::byte{1});
}

TEST_CASE("a ring in fewer bits gives the same bits everywhere, within the rounding of its hops") {
  const int size = ranks().size();
  const auto format = GENERATE(WireFormat::bf16, WireFormat::int8);
  const std::size_t count = GENERATE(as<std::size_t>{}, 1, 3, 300, 100'003);
  INFO("seed " << kSeed << ", " << count << " values, format " << static_cast<int>(format));
  const float weight = 1.0f / static_cast<float>(size);
  auto values = vector_of(ranks().rank(), count);
  std::vector<float> feedback(count, 0.0f);
  ExchangeOptions options;
  options.segment_floats = 1000;
  options.window = 3;
  ring_weighted_sum(values, weight, MPI_COMM_WORLD, options, {format, feedback});

  CHECK(same_on_all_ranks(values));
  // One rounding per hop of a partial sum whose magnitude stays below 5.
  const double step = size == 1 ? 1e-6 : size * (format == WireFormat::bf16 ? 5.0 / 256 : 5.0 / 127);
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    double expected = 0;
    for (int r = 0; r < size; ++r) expected += double{weight} * element(r, i);
    worst = std::max(worst, std::abs(expected - values[i]));
  }
  CHECK(worst < step);
}

TEST_CASE("error feedback gives back what rounding kept") {
  // Over many sums of the same vectors the mean of the results approaches the exact sum: what is left is one sum's
  // rounding, divided by the number of sums.
  const int size = ranks().size();
  if (size == 1) return;
  constexpr std::size_t kCount = 5000;
  constexpr int kSums = 40;
  INFO("seed " << kSeed);
  const float weight = 1.0f / static_cast<float>(size);
  ExchangeOptions options;
  options.segment_floats = 700;
  const auto worst_mean_error = [&](bool with_feedback) {
    std::vector<float> feedback(with_feedback ? kCount : 0, 0.0f);
    std::vector<double> mean(kCount, 0.0);
    for (int sum = 0; sum < kSums; ++sum) {
      auto values = vector_of(ranks().rank(), kCount);
      ring_weighted_sum(values, weight, MPI_COMM_WORLD, options, {WireFormat::int8, feedback});
      for (std::size_t i = 0; i < kCount; ++i) mean[i] += double{values[i]} / kSums;
    }
    double worst = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
      double expected = 0;
      for (int r = 0; r < size; ++r) expected += double{weight} * element(r, i);
      worst = std::max(worst, std::abs(expected - mean[i]));
    }
    return worst;
  };
  CHECK(worst_mean_error(true) < 0.2 * worst_mean_error(false));
}

TEST_CASE("a member of weight 0 adds nothing, not even what is not a number") {
  if (ranks().size() == 1) return;
  const bool silent = ranks().rank() == ranks().size() - 1;
  std::vector<float> values(4097, silent ? std::numeric_limits<float>::quiet_NaN() : 2.0f);
  ExchangeOptions options;
  options.segment_floats = 100;
  const float weight = silent ? 0.0f : 1.0f / static_cast<float>(ranks().size() - 1);
  ring_weighted_sum(values, weight, MPI_COMM_WORLD, options);
  CHECK(std::all_of(values.begin(), values.end(), [](float v) { return std::abs(v - 2.0f) < 1e-6f; }));
}

TEST_CASE("the chain carries the root's vector to the targets only") {
  const int size = ranks().size(), rank = ranks().rank();
  const int root = size - 1;
  const std::size_t count = GENERATE(as<std::size_t>{}, 0, 1, 999, 1000, 25'001);
  std::vector<int> targets;
  for (int r = 0; r < root; r += 2) targets.push_back(r);
  auto values = vector_of(rank, count);
  ExchangeOptions options;
  options.segment_floats = 1000;
  options.window = 4;
  chain_broadcast(values, root, targets, MPI_COMM_WORLD, options);
  const bool receives = std::find(targets.begin(), targets.end(), rank) != targets.end();
  CHECK(values == vector_of(receives ? root : rank, count));
  ranks().barrier();
}

// Prints; for people. tests/fault/README.md has the command and what it found.
TEST_CASE("what exchanges of 73 million parameters take", "[.][throughput]") {
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  constexpr int kSums = 7;
  std::vector<float> values(73'000'000, 1.0f);
  const auto report = [&](const char* name, WireFormat format, bool assistant, bool kept) {
    Staging staging;
    ExchangeOptions options;
    options.assistant = assistant;
    if (kept) options.staging = &staging;
    std::vector<double> took_s;
    rusage before{}, after{};
    for (int sum = 0; sum <= kSums; ++sum) {
      if (sum == 1) getrusage(RUSAGE_SELF, &before);  // the first one warms up
      ranks().barrier();
      const double start_s = monotonic_s();
      ring_weighted_sum(values, 1.0f / static_cast<float>(ranks().size()), MPI_COMM_WORLD, options,
                        {format, {}});
      if (sum > 0) took_s.push_back(monotonic_s() - start_s);
    }
    getrusage(RUSAGE_SELF, &after);
    std::sort(took_s.begin(), took_s.end());
    const double median_s = took_s[kSums / 2];
    const double sent_bits = 8.0 * 2 * (ranks().size() - 1) / ranks().size() *
                             static_cast<double>(wire_bytes(format, std::ssize(values)));
    if (ranks().rank() == 0)
      fmt::print(
          "{}, assistant {}, staging {}: {:.3f} s, {:.1f} Gbit/s; processor {:.3f} s and {:.3f} s in the "
          "kernel\n",
          name, assistant ? "on" : "off", kept ? "kept" : "new", median_s, sent_bits / median_s / 1e9,
          (seconds(after.ru_utime) - seconds(before.ru_utime)) / kSums,
          (seconds(after.ru_stime) - seconds(before.ru_stime)) / kSums);
  };
  for (const auto& [name, format] :
       {std::pair("fp32", WireFormat::fp32), std::pair("bf16", WireFormat::bf16)}) {
    report(name, format, false, false);
    report(name, format, false, true);
    report(name, format, true, true);
  }
}

// The last test of this file: it leaves messages under way on a communicator of its own.
TEST_CASE("a member that takes no part is noticed", "[last]") {
  if (ranks().size() == 1) return;
  MPI_Comm own;
  MPI_Comm_dup(MPI_COMM_WORLD, &own);
  static std::vector<float> values(100'000, 1.0f);  // outlives the messages under way
  const bool silent = ranks().rank() == 0;
  ExchangeOptions options;
  options.deadline_s = 0.2;
  options.assistant = true;
  if (!silent) {
    const std::string error = error_of([&] { ring_weighted_sum(values, 1, own, options); });
    CHECK(error ==
          "exchange: no progress for 0.2 s while receiving from rank " + std::to_string(ranks().rank() - 1));
  }
  ranks().barrier();
  options.deadline_s = 0;
  int polls = 0;
  options.abort = [&] { return ++polls > 10; };
  MPI_Comm other;
  MPI_Comm_dup(MPI_COMM_WORLD, &other);
  if (!silent)
    CHECK(error_of([&] {
            chain_broadcast(values, 0, {1, 2, 3}, other, options);
          }) == (ranks().rank() < 4 ? "exchange: aborted" : "no error"));
  ranks().barrier();
}
