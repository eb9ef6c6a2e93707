// What a tensor in a checkpoint looks like, without holding it in memory.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "io/checkpoint.hpp"

namespace spillway {

// Over the finite elements, in float64. NaN where there are none.
struct TensorStatistics {
  std::int64_t count = 0;       // all elements
  std::int64_t non_finite = 0;  // NaN and infinities
  double mean = std::numeric_limits<double>::quiet_NaN();
  double std = mean;  // √(mean(x²) − mean(x)²)
  double min = mean, max = mean;
  double norm = mean;  // Euclidean
};

// Reads the float32 dataset once, checking its checksum. Throws Error(bad_data).
TensorStatistics measure_tensor(const CheckpointReader& reader, const std::string& path);

}  // namespace spillway
