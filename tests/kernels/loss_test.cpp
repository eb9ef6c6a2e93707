// Softcapped cross entropy.
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("softcapped cross entropy") {
  const int rows = GENERATE(1, 5, 301);  // 301: several rows for each of a GPU's multiprocessors
  const int V = GENERATE(2, 50, 257, 1024, 8200, 24576, 32768, 65536, 65544);
  const double size = GENERATE(0.01, 3.0, 10.0, 40.0);  // 40: far beyond the cap
  if (rows > 5 && (V > 24576 || size != 3.0)) return;   // the reference is slow
  const float dscale = GENERATE(0.0f, 0.125f);
  INFO("rows " << rows << " V " << V << " size " << size << " dscale " << dscale);
  reference::Tokens target_values = random_tokens(1, rows, V);
  if (rows > 1) target_values[1] = -1;
  DeviceArray<std::int32_t> targets(target_values);
  DeviceArray<act> logits(random(2, std::int64_t{rows} * V, size));
  DeviceArray<float> losses(rows);
  Vector expected = logits.values();
  const Vector before = expected;
  softcap_cross_entropy(device(), losses.data(), logits.data(), targets.data(), dscale, rows, V);
  const Vector expected_losses = reference::softcap_cross_entropy(expected, target_values, dscale, rows, V);
  CHECK(relative_error(losses.values(), expected_losses) < kFloatTolerance);
  if (dscale == 0)
    CHECK(logits.values() == before);
  else
    CHECK(relative_error(logits.values(), expected) < kTolerance);
}

TEST_CASE("logits of any size stay finite") {
  DeviceArray<act> logits(Vector{3e38, -3e38, 0.0, 1000.0, -1000.0, 20.0, -20.0, 1.0});
  DeviceArray<std::int32_t> targets(reference::Tokens{0});
  DeviceArray<float> losses(1);
  softcap_cross_entropy(device(), losses.data(), logits.data(), targets.data(), 1.0f, 1, 8);
  CHECK(std::isfinite(losses.values()[0]));
  for (const double value : logits.values()) CHECK(std::isfinite(value));
}
