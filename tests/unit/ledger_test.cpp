#include "data/ledger.hpp"

#include <random>

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
  REQUIRE_THROWS_AS(Ledger::from_json({{"total", "many"}}), Error);
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
