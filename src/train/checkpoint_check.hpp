// Whether a checkpoint is whole.
#pragma once

#include "io/checkpoint.hpp"

namespace spillway {

// Every tensor that the model's sizes ask for is there with its shape. Reads no tensors.
// Throws Error(bad_data) naming the first one that is missing or of another shape, or sizes that cannot be.
void require_complete(const CheckpointReader& reader);

}  // namespace spillway
