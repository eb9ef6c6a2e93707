#include "model/spec.hpp"

#include <string>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

ModelConfig preset(int depth) {
  ModelConfig config;
  config.depth = depth;
  return config;
}

// The message of the usage error that the sizes must lead to.
std::string refusal(const ModelConfig& config, int data_vocab = 65536) {
  try {
    make_spec(config, data_vocab);
  } catch (const Error& error) {
    REQUIRE(error.code() == ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("d20 has the study's sizes, parameters and FLOPs") {
  const GptSpec spec = make_spec(preset(20), 65536);
  CHECK(spec.layers == 20);
  CHECK(spec.width == 1280);
  CHECK(spec.heads == 10);
  CHECK(spec.head_dim() == 128);
  CHECK(spec.ffn() == 5120);
  CHECK(spec.sequence == 2048);
  CHECK(spec.parameters() == 560988200);
  CHECK(spec.flops_per_token_nanochat() == 3491758080.0);
  CHECK(spec.flops_per_token_causal() == 3177185280.0);
}

TEST_CASE("every depth of nanochat's dial gives supported heads") {
  for (int depth = 1; depth <= 40; ++depth) {
    INFO("depth " << depth);
    const GptSpec spec = make_spec(preset(depth), 512);
    CHECK(spec.layers == depth);
    CHECK(spec.width == 64 * depth);
    CHECK(spec.heads * spec.head_dim() == spec.width);
    CHECK(spec.head_dim() == (depth % 2 == 0 ? 128 : 64));
  }
  CHECK(make_spec(preset(12), 512).heads == 6);
}

TEST_CASE("explicit sizes override the dial") {
  ModelConfig config = preset(20);
  config.layers = 3;
  config.width = 96;
  config.scalars = false;
  config.sequence = 64;
  const GptSpec spec = make_spec(config, 100);
  CHECK(spec.layers == 3);
  CHECK(spec.width == 96);
  CHECK(spec.heads == 3);
  CHECK(spec.vocab == 100);
  CHECK(spec.parameters() == 2 * 100 * 96 + 3 * 12 * 96 * 96);
  config.scalars = true;
  config.heads = 6;
  config.vocab = 128;
  CHECK(make_spec(config, 100).head_dim() == 16);
  CHECK(make_spec(config, 100).vocab == 128);
  CHECK(make_spec(config, 0).parameters() == 2 * 128 * 96 + 3 * 12 * 96 * 96 + 6);
}

TEST_CASE("impossible sizes are refused by the name of their key") {
  ModelConfig config = preset(0);
  CHECK(refusal(config) == "model.depth = 0: must be between 1 and 1024");
  config = preset(33554432);  // 64·depth would overflow
  CHECK(refusal(config) == "model.depth = 33554432: must be between 1 and 1024");
  config = preset(20);
  config.heads = 3;
  CHECK(refusal(config) == "model.heads = 3: does not divide model.width = 1280");
  config.heads = -1;
  CHECK(refusal(config) == "model.heads = -1: must be between 1 and 1280");
  config.heads = 5;
  CHECK(refusal(config) ==
        "model.heads = 5: gives heads of 256 channels at width 1280; supported: 16, 32, 64, 128");
  config = preset(20);
  config.width = 100;
  CHECK(refusal(config) == "model.width = 100: must be a multiple of 16, the smallest supported head");
  config.width = 2000000000;
  CHECK(refusal(config) == "model.width = 2000000000: must be between 16 and 65536");
  config = preset(20);
  config.layers = -2;
  CHECK(refusal(config) == "model.layers = -2: must be between 1 and 4096");
  config = preset(20);
  config.sequence = 0;
  CHECK(refusal(config) == "model.sequence = 0: must be between 1 and 1048576");
  config = preset(20);
  config.vocab = 1000;
  CHECK(refusal(config) == "model.vocab = 1000: smaller than the data's vocabulary of 65536");
  config.vocab = 2000000000;
  CHECK(refusal(config) == "model.vocab = 2000000000: must be between 2 and 16777216");
  config.vocab = 0;
  CHECK(refusal(config, 0) == "model.vocab is not set and the data does not say it; set model.vocab");
}
