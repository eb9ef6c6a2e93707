// Tables of the rotary position embedding.
#pragma once

#include <vector>

namespace spillway {

struct RopeTables {
  std::vector<float> cosine, sine;  // (T, D/2) each, values rounded to bf16
};

// cos and sin of θ = t·base^(−2j/D) for t in [0, T), j in [0, D/2), base = kRopeBase (kernels/ops.hpp).
RopeTables rope_tables(int T, int D);

}  // namespace spillway
