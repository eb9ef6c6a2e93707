#include "comm/site.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "comm/mpi.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/catch.hpp"
#include "tests/mpi/ranks.hpp"

using namespace spillway;

namespace {

constexpr std::int64_t kCount = 700'001;  // several messages per part

// Parts of very different sizes, for every rank more than one, and none for the last where there are more than two.
std::vector<OwnedPart> uneven_parts() {
  const int owners = ranks().size() > 2 ? ranks().size() - 1 : ranks().size();
  std::vector<OwnedPart> parts;
  std::int64_t begin = 0;
  for (int i = 0; begin < kCount; ++i) {
    const std::int64_t end = std::min(kCount, begin + (i % 3 == 0 ? 400'000 : 17 * i));
    parts.push_back({begin, end, i % owners});
    begin = end;
  }
  return parts;
}

std::vector<float> numbers_of(int rank) {
  std::vector<float> values(kCount);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = normal01(3, static_cast<std::uint64_t>(rank), i);
  return values;
}

}  // namespace

TEST_CASE("owners get the sums over the ranks, with the same bits each time") {
  const auto parts = uneven_parts();
  auto values = numbers_of(ranks().rank());
  ranks().sum_to_owners(values, parts);
  double worst = 0;
  bool others_kept = true;
  for (const OwnedPart& part : parts)
    for (std::int64_t i = part.begin; i < part.end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const float own = normal01(3, static_cast<std::uint64_t>(ranks().rank()), at);
      if (part.owner != ranks().rank()) {
        others_kept = others_kept && values[at] == own;
        continue;
      }
      double expected = 0;
      for (int r = 0; r < ranks().size(); ++r) expected += normal01(3, static_cast<std::uint64_t>(r), at);
      worst = std::max(worst, std::abs(expected - values[at]));
    }
  CHECK(worst < 1e-5);
  CHECK(others_kept);
  auto again = numbers_of(ranks().rank());
  ranks().sum_to_owners(again, parts);
  CHECK(again == values);
}

TEST_CASE("all ranks get the owners' parts") {
  const auto parts = uneven_parts();
  auto values = numbers_of(ranks().rank());
  ranks().share_from_owners(values, parts);
  bool right = true;
  for (const OwnedPart& part : parts)
    for (std::int64_t i = part.begin; i < part.end; ++i)
      right = right && values[static_cast<std::size_t>(i)] ==
                           normal01(3, static_cast<std::uint64_t>(part.owner), static_cast<std::uint64_t>(i));
  CHECK(right);
}

TEST_CASE("a rank gathers the parts of a vector, the leader hands them out") {
  // The part of rank r has r elements: the leader's is empty.
  const int rank = ranks().rank(), size = ranks().size();
  const auto whole_size = static_cast<std::size_t>(size * (size - 1) / 2);
  const std::int64_t first = rank * (rank - 1) / 2;
  const std::vector<float> part(static_cast<std::size_t>(rank), static_cast<float>(rank));
  std::vector<float> whole(ranks().leader() ? whole_size : 0), expected;
  for (int r = 0; r < size && ranks().leader(); ++r)
    expected.insert(expected.end(), static_cast<std::size_t>(r), static_cast<float>(r));
  ranks().gather(0, part, first, whole);
  CHECK(whole == expected);
  const bool last = rank == size - 1;
  std::vector<float> at_last(last ? whole_size : 0, -1.0f);
  if (last) std::copy(part.begin(), part.end(), at_last.begin() + first);  // at its place already
  ranks().gather(size - 1,
                 last ? std::span<const float>(at_last).subspan(static_cast<std::size_t>(first)) : part,
                 first, at_last);
  for (std::size_t i = 0; i < at_last.size(); ++i) CHECK(at_last[i] >= 0);
  std::vector<float> back(part.size());
  ranks().scatter_from_leader(whole, first, back);
  CHECK(back == part);
}

TEST_CASE("ranks know their neighbours on the machine") {
  CHECK(ranks().node_size() == ranks().size());
  CHECK(ranks().node_rank() == ranks().rank());
}

TEST_CASE("small values are reduced and broadcast") {
  const int size = ranks().size(), rank = ranks().rank();
  CHECK(ranks().max(rank) == size - 1);
  CHECK(ranks().min(rank) == 0);
  CHECK(ranks().sum(rank + 0.5) == 0.5 * size * size);
  CHECK(ranks().any(rank == size - 1));
  CHECK_FALSE(ranks().any(false));
  CHECK(ranks().all(true));
  CHECK(ranks().all(rank == 0) == (size == 1));
  struct {
    int step;
    double loss;
  } decision = {ranks().leader() ? 7 : 0, ranks().leader() ? 0.5 : 0};
  ranks().broadcast(decision);
  CHECK(decision.step == 7);
  CHECK(decision.loss == 0.5);
  ranks().barrier();
}

TEST_CASE("training between sites asks for Open MPI 4.1") {
  CHECK_NOTHROW(require_inter_site_mpi("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4"));
  CHECK_THROWS_WITH(
      require_inter_site_mpi("Open MPI v5.0.7, package: Debian OpenMPI"),
      "training between sites needs Open MPI 4.1, which can connect separately started jobs; this "
      "is Open MPI v5.0.7: install Open MPI 4.1 or train without --federation.hub");
  CHECK_THROWS_AS(require_inter_site_mpi("MPICH Version: 4.0\nMPICH Release date: x"), Error);
}
