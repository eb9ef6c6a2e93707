#include "train/run_digest.hpp"

#include <functional>
#include <set>
#include <vector>

#include "tests/catch.hpp"

using namespace spillway;

namespace {

std::string digest_after(const std::function<void(Config&)>& change) {
  Config config;
  change(config);
  return run_digest(config, GptSpec{});
}

}  // namespace

TEST_CASE("the digest of a run changes with every setting that its members must share") {
  const std::vector<std::function<void(Config&)>> changes = {
      [](Config&) {},
      [](Config& config) { config.train.seed += 1; },
      [](Config& config) { config.train.steps += 1; },
      [](Config& config) { config.optim.muon_lr *= 2; },
      [](Config& config) { config.optim.muon_momentum = 0.99; },
      [](Config& config) { config.optim.muon_beta2 = 0.99; },
      [](Config& config) { config.optim.adam_beta1 = 0.99; },
      [](Config& config) { config.optim.adam_beta2 = 0.99; },
      [](Config& config) { config.federation.outer_lr = 1; },
      [](Config& config) { config.federation.average_optimizer = true; },
  };
  std::set<std::string> digests;
  for (const auto& change : changes) digests.insert(digest_after(change));
  CHECK(digests.size() == changes.size());
}

TEST_CASE("what a site decides alone is not in the digest") {
  CHECK(digest_after([](Config& config) {
          config.train.device = "cuda";
          config.train.micro_batch = 7;
          config.site.name = "texas";
        }) == digest_after([](Config&) {}));
}

// Settings that came later count where they differ from their defaults: runs begun before go on.
TEST_CASE("the digest of a run with the usual settings is what it was before there were others") {
  CHECK(digest_after([](Config&) {}) == "68881771d157907ed0e270d01754fec8");
}
