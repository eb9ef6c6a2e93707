// Causal attention with the device's own choice of kernels.
#include "tests/kernels/attention_check.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("attention") {
  const int T = GENERATE(1, 17, 64, 65, 150);
  const int D = GENERATE(32, 64, 128);
  INFO("T " << T << " D " << D);
  check_attention(2, T, 3, D);
}
