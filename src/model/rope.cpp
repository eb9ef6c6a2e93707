#include "model/rope.hpp"

#include <cmath>

#include "kernels/ops.hpp"

namespace spillway {

RopeTables rope_tables(int T, int D) {
  const int half = D / 2;
  const auto size = static_cast<std::size_t>(T) * static_cast<std::size_t>(half);
  RopeTables tables{std::vector<float>(size), std::vector<float>(size)};
  for (int j = 0; j < half; ++j) {
    const double frequency = std::pow(static_cast<double>(kRopeBase), -2.0 * j / D);
    for (int t = 0; t < T; ++t) {
      const auto at =
          static_cast<std::size_t>(t) * static_cast<std::size_t>(half) + static_cast<std::size_t>(j);
      tables.cosine[at] = round_to_bf16(static_cast<float>(std::cos(t * frequency)));
      tables.sine[at] = round_to_bf16(static_cast<float>(std::sin(t * frequency)));
    }
  }
  return tables;
}

}  // namespace spillway
