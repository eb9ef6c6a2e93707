// The emulated link's rate, delay and bounded queue, on a clock of the test's own.
#include "tests/fault/wan/pipe.hpp"

#include "tests/catch.hpp"

namespace {

constexpr double kBitsPerSecond = 8e6;  // a byte takes a microsecond

PipeSpec spec(double queue_s) { return {0.030, kBitsPerSecond, 3000, queue_s}; }

Pipe::Frame frame(int number) { return Pipe::Frame(1, static_cast<std::byte>(number)); }

}  // namespace

TEST_CASE("a lone frame takes the delay alone, as the bucket is full") {
  Pipe pipe(spec(1));
  REQUIRE(pipe.push(10.0, frame(1), 1500));
  REQUIRE(pipe.next_s().value() == Approx(10.030).epsilon(1e-12));
  REQUIRE(!pipe.pop(10.0299));
  REQUIRE(pipe.pop(10.0301) == frame(1));
  REQUIRE(!pipe.next_s());
}

TEST_CASE("a burst passes at once up to the bucket's depth and then at the rate, in order") {
  Pipe pipe(spec(1));
  for (int i = 0; i < 10; ++i) REQUIRE(pipe.push(5.0, frame(i), 1000));
  for (int i = 0; i < 10; ++i) {
    const double expected_s = 5.030 + 0.001 * std::max(0, i - 2);
    REQUIRE(pipe.next_s().value() == Approx(expected_s).epsilon(1e-9));
    REQUIRE(pipe.pop(expected_s + 1e-6) == frame(i));
  }
}

TEST_CASE("over a long time the rate is kept whatever the pattern of arrival") {
  Pipe pipe(spec(1e9));
  double last_s = 0;
  for (int i = 0; i < 10000; ++i) REQUIRE(pipe.push(i < 5000 ? 0.0 : 2.0, frame(i % 100), 1000));
  while (const auto next_s = pipe.next_s()) {
    REQUIRE(*next_s >= last_s);
    last_s = *next_s;
    pipe.pop(last_s);
  }
  REQUIRE(last_s == Approx(0.030 + (10000 * 1000 - 3000) * 8 / kBitsPerSecond).epsilon(1e-9));
}

TEST_CASE("a full queue drops, and takes frames again once it has drained") {
  Pipe pipe(spec(0.0105));
  int taken = 0;
  while (taken < 1000 && pipe.push(0, frame(taken), 1000)) ++taken;
  REQUIRE(taken == 14);  // 3 of the bucket, 10 that wait up to 10 ms, and the one that fills the queue
  REQUIRE(!pipe.push(0.0001, frame(0), 1000));
  REQUIRE(pipe.push(0.002, frame(0), 1000));
}

TEST_CASE("what is under way can be lost") {
  Pipe pipe(spec(1));
  pipe.push(0, frame(1), 1000);
  pipe.clear();
  REQUIRE(!pipe.next_s());
  REQUIRE(!pipe.pop(1e9));
}
