// The GPU that the section [train] asks for.
#pragma once

#include <string>

#include "core/config.hpp"
#include "kernels/cuda/device.hpp"

namespace spillway {

// GPU rank mod (GPUs that this process sees): ranks of one machine are neighbours, and where the batch system shows each
// rank its own GPU only, that one is taken. Applies train.deterministic, train.attention and
// train.precision. Throws Error(usage) where there is no usable GPU, or for an attention or a precision that is unknown or
// was not built.
Cuda open_gpu(const TrainConfig& config, int rank);
// Where that GPU sits: gpu_bus_id_of().
std::string gpu_bus_id(int rank);

}  // namespace spillway
