// What train.precision may be on each device.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"

namespace spillway {

// Whether the blocks multiply in FP8. Throws Error(usage) for another precision than bf16 and fp8, and for FP8 on the CPU, which
// computes in float32 whatever the key says.
inline bool precision_is_fp8(const TrainConfig& config) {
  if (config.precision == "bf16") return false;
  if (config.precision != "fp8")
    fail(ExitCode::usage, "train.precision = {}: must be bf16 or fp8", config.precision);
  if (config.device == "cpu")
    fail(ExitCode::usage,
         "train.precision = fp8: only train.device = cuda multiplies in FP8, the CPU computes in float32");
  return true;
}

}  // namespace spillway
