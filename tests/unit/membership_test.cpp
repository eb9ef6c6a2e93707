// Who can be in an epoch: the largest group, against trying all sets; and how long failures keep members apart.
#include "train/membership.hpp"

#include <bit>
#include <random>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

bool connected(const std::vector<std::uint64_t>& adjacency, std::uint64_t group) {
  for (std::size_t i = 0; i < adjacency.size(); ++i)
    if ((group >> i & 1) != 0 && (group & ~(adjacency[i] | std::uint64_t{1} << i)) != 0) return false;
  return true;
}

}  // namespace

TEST_CASE("the largest group is that of trying all sets") {
  const auto seed = static_cast<unsigned>(GENERATE(range(0, 60)));
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const std::size_t nodes = random() % 10;
  std::vector<std::uint64_t> adjacency(nodes);
  for (std::size_t i = 0; i < nodes; ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (random() % 10 < seed % 10) {
        adjacency[i] |= std::uint64_t{1} << j;
        adjacency[j] |= std::uint64_t{1} << i;
      }
  const std::uint64_t one_of = random() % 1024, preferred = random() % 1024;
  int size = 0, liked = 0;
  for (std::uint64_t group = 1; group < std::uint64_t{1} << nodes; ++group) {
    if ((group & one_of) == 0 || !connected(adjacency, group)) continue;
    const int count = std::popcount(group), in = std::popcount(group & preferred);
    if (count < size || (count == size && in <= liked)) continue;
    size = count;
    liked = in;
  }
  const std::uint64_t found = largest_group(adjacency, one_of, preferred);
  REQUIRE(std::popcount(found) == size);
  REQUIRE(std::popcount(found & preferred) == liked);
  REQUIRE(connected(adjacency, found));
  REQUIRE((found == 0 || (found & one_of) != 0));
}

TEST_CASE("64 members that all reach each other are one group") {
  std::vector<std::uint64_t> adjacency;
  for (int i = 0; i < 64; ++i) adjacency.push_back(~(std::uint64_t{1} << i));
  CHECK(largest_group(adjacency, ~std::uint64_t{0}, 0) == ~std::uint64_t{0});
  CHECK(largest_group({}, ~std::uint64_t{0}, 0) == 0);
}

TEST_CASE("failures in a row keep a pair apart for longer and longer, up to a minute") {
  Blame blame;
  double now_s = 0;
  for (const double pause_s : {5.0, 10.0, 20.0, 40.0, 60.0, 60.0}) {
    blame.add(now_s, "iowa", "texas");
    CHECK(blame.blamed(now_s + pause_s - 0.1, "texas", "iowa"));
    CHECK_FALSE(blame.blamed(now_s + pause_s, "texas", "iowa"));
    CHECK_FALSE(blame.blamed(now_s, "iowa", "oregon"));
    CHECK_FALSE(blame.blamed(now_s, "iowa", "iowa"));
    now_s += 1000;
  }
}

TEST_CASE("a round together or a new process ends the blame") {
  Blame blame;
  blame.add(0, "iowa", "texas");
  blame.add(0, "texas", "texas");
  blame.forgive({"iowa", "oregon"});
  CHECK(blame.blamed(0.1, "iowa", "texas"));
  CHECK(blame.blamed(0.1, "texas", "texas"));
  SECTION("a round together") { blame.forgive({"iowa", "texas"}); }
  SECTION("a new process") { blame.forget("texas"); }
  CHECK_FALSE(blame.blamed(0.1, "iowa", "texas"));
  CHECK_FALSE(blame.blamed(0.1, "texas", "texas"));
}
