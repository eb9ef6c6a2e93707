#include "data/ledger.hpp"

#include <limits>
#include <random>
#include <set>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

TEST_CASE("range sets join, split and count") {
  RangeSet set({{5, 8}, {0, 2}});
  REQUIRE(set.count() == 5);
  set.add(2, 5);
  REQUIRE(set.ranges() == RangeSet::Ranges{{0, 8}});
  set.remove(3, 4);
  REQUIRE(set.ranges() == RangeSet::Ranges{{0, 3}, {4, 8}});
  REQUIRE(set.contains(4, 8));
  REQUIRE_FALSE(set.contains(2, 5));
  REQUIRE(set.take(5).ranges() == RangeSet::Ranges{{0, 3}, {4, 6}});
  REQUIRE(to_string(set) == "[6, 8)");
  REQUIRE_THROWS_WITH(RangeSet({{0, 3}, {2, 5}}), "[2, 5) overlaps another range");
  REQUIRE_THROWS_WITH(RangeSet({{3, 3}}), "[3, 3) is not a range of blocks");
  REQUIRE_THROWS_WITH(RangeSet({{-1, 3}}), "[-1, 3) is not a range of blocks");
}

TEST_CASE("the ledger refuses what would count a block twice") {
  Ledger ledger(10);
  const RangeSet a = ledger.lease("california", 4);
  const RangeSet b = ledger.lease("texas", 100);
  REQUIRE(to_string(a) == "[0, 4)");
  REQUIRE(to_string(b) == "[4, 10)");
  REQUIRE(ledger.lease("texas", 1).empty());
  REQUIRE_THROWS_WITH(ledger.commit("california", b),
                      "california cannot commit blocks [4, 10): it holds [0, 4)");
  ledger.commit("california", RangeSet({{0, 2}}));
  REQUIRE_THROWS_WITH(ledger.commit("california", a),
                      "california cannot commit blocks [0, 4): it holds [2, 4)");
  REQUIRE_THROWS_WITH(ledger.release("california", RangeSet({{0, 1}})),
                      "california cannot release blocks [0, 1): it holds [2, 4)");
  REQUIRE_FALSE(ledger.adopt("south_australia", RangeSet({{1, 3}})));
  ledger.release_all("california");
  REQUIRE(ledger.adopt("south_australia", RangeSet({{2, 3}})));
  REQUIRE(to_string(ledger.lease("california", 9)) == "[3, 4)");
}

TEST_CASE("a ledger survives a restart of the hub") {
  Ledger ledger(10);
  ledger.commit("texas", ledger.lease("texas", 3));
  ledger.lease("texas", 3);
  const Ledger again = Ledger::from_json(ledger.to_json());
  REQUIRE(again.committed() == 3);
  REQUIRE(again.available() == 7);  // leases are brought back by their members
  REQUIRE_THROWS_WITH(Ledger::from_json({{"total", 4}, {"committed", {{2, 5}}}}),
                      "committed blocks [2, 5) lie outside the 4 of the run");
  REQUIRE_THROWS_WITH(Ledger::from_json({{"total", 9}, {"committed", {{2, 5}, {4, 6}}}}),
                      "[4, 6) overlaps another range");
  REQUIRE_THROWS_WITH(Ledger::from_json({{"total", -1}, {"committed", nlohmann::json::array()}}),
                      "ledger: a total of -1 blocks; must be positive");
  for (const char* damaged : {R"({"total": "many", "committed": []})", R"({"total": 5})",
                              R"({"total": 5, "committed": [[1]]})", R"([])"}) {
    INFO(damaged);
    REQUIRE_THROWS_AS(Ledger::from_json(nlohmann::json::parse(damaged)), Error);
  }
}

TEST_CASE("numbers at the end of 64 bits do not overflow") {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  REQUIRE_THROWS_WITH(RangeSet({{0, most}, {1, most}}), "[1, 9223372036854775807) overlaps another range");
  RangeSet set({{most - 5, most}});
  REQUIRE(set.take(most).count() == 5);
  REQUIRE(set.empty());
  Ledger ledger(10);
  REQUIRE(ledger.lease("texas", 3).count() == 3);
  REQUIRE(ledger.lease("texas", most).count() == 7);
  REQUIRE(ledger.lease("texas", -1).empty());
}

TEST_CASE("range sets agree with sets of numbers under random changes") {
  const unsigned seed = GENERATE(1u, 2u, 3u);
  INFO("seed " << seed);
  std::mt19937 random(seed);
  RangeSet set;
  std::set<std::int64_t> expected;
  for (int step = 0; step < 1000; ++step) {
    const auto first = static_cast<std::int64_t>(random() % 60);
    const auto end = first + static_cast<std::int64_t>(random() % 9);
    const auto choice = random() % 5;
    if (choice < 2) {
      set.add(first, end);
      for (auto block = first; block < end; ++block) expected.insert(block);
    } else if (choice < 4) {
      set.remove(first, end);
      for (auto block = first; block < end; ++block) expected.erase(block);
    } else {
      const RangeSet taken = set.take(end - first);
      for (const auto& [a, b] : taken.ranges())
        for (auto block = a; block < b; ++block) {
          REQUIRE(block == *expected.begin());  // lowest first
          expected.erase(expected.begin());
        }
    }
    std::set<std::int64_t> seen;
    std::int64_t last = -2;
    for (const auto& [a, b] : set.ranges()) {
      REQUIRE(a > last);  // ordered, and not touching the one before
      REQUIRE(b > a);
      last = b;
      for (auto block = a; block < b; ++block) seen.insert(block);
    }
    REQUIRE(seen == expected);
    REQUIRE(set.count() == static_cast<std::int64_t>(expected.size()));
  }
}

TEST_CASE("under any churn every block is committed exactly once") {
  const unsigned seed = GENERATE(1u, 2u, 3u, 4u);
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const std::string members[] = {"california", "texas", "south_australia"};
  Ledger ledger(200);
  std::vector<int> times(200, 0);
  for (int step = 0; step < 5000 && !ledger.complete(); ++step) {
    const std::string& member = members[random() % 3];
    switch (random() % 5) {
      case 0:
        ledger.lease(member, static_cast<std::int64_t>(random() % 7));
        break;
      case 1:
        ledger.release_all(member);
        break;
      case 2: {
        RangeSet part = ledger.leased(member);
        ledger.release(member, part.take(static_cast<std::int64_t>(random() % 4)));
        break;
      }
      case 3:
        ledger = Ledger::from_json(ledger.to_json());
        break;
      default: {
        RangeSet part = ledger.leased(member);
        const RangeSet done = part.take(static_cast<std::int64_t>(random() % 4));
        ledger.commit(member, done);
        for (const auto& [first, end] : done.ranges())
          for (std::int64_t block = first; block < end; ++block) ++times[static_cast<std::size_t>(block)];
      }
    }
    std::int64_t held = 0;
    for (const auto& name : members) held += ledger.leased(name).count();
    REQUIRE(held + ledger.available() + ledger.committed() == 200);
  }
  REQUIRE(ledger.complete());
  for (const int count : times) REQUIRE(count == 1);
}
