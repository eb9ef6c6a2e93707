// train.precision: what it may be, and the one refusal on the CPU.
#include "train/precision.hpp"

#include <string>

#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

std::string refusal(const std::string& precision, const std::string& device) {
  TrainConfig config;
  config.precision = precision;
  config.device = device;
  try {
    precision_is_fp8(config);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("precisions and the devices that have them") {
  TrainConfig config;
  CHECK(config.precision == "bf16");
  CHECK_FALSE(precision_is_fp8(config));
  config.device = "cuda";
  CHECK_FALSE(precision_is_fp8(config));
  config.precision = "fp8";
  CHECK(precision_is_fp8(config));
  CHECK(refusal("fp8", "cpu") ==
        "train.precision = fp8: only train.device = cuda multiplies in FP8, the CPU computes in float32");
  CHECK(refusal("fp16", "cuda") == "train.precision = fp16: must be bf16 or fp8");
}
