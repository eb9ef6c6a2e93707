// Drawing tokens, and the errors of spillway sample. Its text is compared with NumPy's in tests/reference.
#include <cmath>
#include <limits>
#include <map>

#include "tests/unit/checkpoint_samples.hpp"
#include "train/sampler.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

}  // namespace

TEST_CASE("temperature 0 takes the largest logit, of equal ones the first") {
  CHECK(choose_token(kLogits, {0, 0, 1, 0}, 0) == 1);
  CHECK(choose_token(kLogits, {0, 3, 9, 0}, 7) == 1);
  CHECK(choose_token(kLogits, {0, 0, 1, 1}, 0) == 0);
}

TEST_CASE("draws follow the softmax of logits over temperature") {
  const double temperature = GENERATE(1.0, 0.5);
  constexpr int draws = 20000;
  std::map<int, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[choose_token(kLogits, {temperature, 0, 3, 0}, i)];
  double total = 0;
  for (const float logit : kLogits) total += std::exp(logit / temperature);
  for (int token = 0; token < 5; ++token) {
    const double p = std::exp(kLogits[static_cast<std::size_t>(token)] / temperature) / total;
    INFO("token " << token << " at temperature " << temperature);
    CHECK(std::abs(counts[token] - draws * p) < 5 * std::sqrt(draws * p * (1 - p)) + 1);
  }
}

TEST_CASE("top-k leaves out all but the k largest") {
  std::map<int, int> counts;
  for (int i = 0; i < 1000; ++i) ++counts[choose_token(kLogits, {1, 2, 4, 0}, i)];
  CHECK(counts[1] + counts[3] == 1000);
  CHECK(counts[1] > 400);
  CHECK(counts[3] > 400);
  CHECK(choose_token(kLogits, {1, 1, 4, 0}, 3) == 1);
}

TEST_CASE("logits that are not finite are refused") {
  const float broken =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const std::vector<float> logits = {1.0f, broken};
  CHECK_THROWS_AS(choose_token(logits, {}, 0), Error);
  CHECK_NOTHROW(choose_token(logits, {1, 0, 1, 1}, 0));
}

TEST_CASE("spillway sample: the same seed gives the same tokens, others differ") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "checkpoint_00000001.h5").string();
  write_sample_state(file);
  const auto sample = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"sample", "--checkpoint", file, "--prompt-ids", "1, 2 3", "--tokens", "20"});
    const auto result = spillway_command(more);
    INFO(result.output);
    REQUIRE(result.status == 0);
    return result.output;
  };
  const std::string first = sample({"--seed", "5"});
  CHECK(sample({"--seed", "5"}) == first);
  CHECK(sample({"--seed", "6"}) != first);
  const std::string two = sample({"--seed", "5", "--samples", "2"});
  CHECK(two == first + sample({"--seed", "6"}));
}

TEST_CASE("spillway sample names what is wrong") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "checkpoint_00000001.h5").string();
  write_sample_state(file);
  const auto check = [&](std::vector<std::string> arguments, int status, const std::string& message) {
    arguments.insert(arguments.begin(), "sample");
    const auto result = spillway_command(arguments);
    INFO(result.output);
    CHECK(result.status == status);
    CHECK(contains(result.output, message));
  };
  check({"--prompt", "a"}, 64, "spillway sample needs --checkpoint FILE");
  check({"--checkpoint", file, "--prompt", "a"}, 64,
        "no tokenizer in the data folder that it was trained on");
  check({"--checkpoint", file, "--prompt", "a", "--tokenizer", "/nowhere/t.model"}, 65,
        "/nowhere/t.model: the tokenizer cannot be read");
  check({"--checkpoint", file, "--prompt-ids", "3 64"}, 64, "must be token ids from 0 to 63");
  check({"--checkpoint", file, "--prompt-ids", "3 x"}, 64, "must be token ids from 0 to 63");
  check({"--checkpoint", file, "--prompt-ids", "3", "--temperature", "-1"}, 64, "--temperature -1");
  check({"--checkpoint", file, "--prompt-ids", "3", "--device", "tpu"}, 64, "train.device = tpu");
  check({"--checkpoint", (folder.path() / "none.h5").string(), "--prompt-ids", "3"}, 65,
        "no such checkpoint file");
}
