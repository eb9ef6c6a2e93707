#include "comm/site.hpp"

#include <cmath>
#include <vector>

#include "comm/mpi.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/catch.hpp"
#include "tests/mpi/ranks.hpp"

using namespace spillway;

TEST_CASE("gradients are averaged over the ranks, with the same bits each time") {
  const std::size_t count = 300'001;
  const auto average = [&] {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i)
      values[i] = normal01(3, static_cast<std::uint64_t>(ranks().rank()), i);
    ranks().average(values);
    return values;
  };
  const auto values = average();
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    double expected = 0;
    for (int r = 0; r < ranks().size(); ++r) expected += normal01(3, static_cast<std::uint64_t>(r), i);
    worst = std::max(worst, std::abs(expected / ranks().size() - values[i]));
  }
  CHECK(worst < 1e-6);
  CHECK(average() == values);
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
