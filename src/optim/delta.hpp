// What can be said of a round's Δ without sending it: norms, and a sketch from which anybody computes cosines.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

inline constexpr int kSketchSize = 1024;

struct DeltaStatistics {
  bool finite = true;                // every element is; else all else is 0 and empty
  double norm = 0;                   // Euclidean, over the whole vector
  std::vector<double> tensor_norms;  // one per entry of tensor_ends
  std::vector<double> sketch;        // kSketchSize numbers
};

// delta: the flat vector; tensor_ends: where each tensor ends in it, ascending; empty: no norms per tensor.
//
// The sketch is a count sketch (Charikar, Chen and Farach-Colton 2002): element i is added with a pseudo-random sign to
// one of kSketchSize sums, the same for every member. The inner product of two sketches is that of the vectors, with a
// standard deviation of |a|·|b| / sqrt(kSketchSize), 3 % here.
DeltaStatistics measure_delta(std::span<const float> delta, std::span<const std::int64_t> tensor_ends);

// Cosine of the angle between the vectors behind two sketches; 0 where one of them is 0. Sizes must be equal.
double sketch_cosine(std::span<const double> a, std::span<const double> b);

}  // namespace spillway
