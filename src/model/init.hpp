// Initial weights. Each value depends on (seed, index of the parameter, index of the element) alone, so that all backends
// and any number of ranks start from the same model.
#pragma once

#include <cstdint>
#include <span>

#include "core/layout.hpp"

namespace spillway {

// Fills the flat vector in host memory (layout.total elements):
// wte ~ N(0, 1); lm_head ~ N(0, 0.001²); Wq, Wk, Wv, Wfc ~ U(−s, s) with s = √3/√C; Wo = Wproj = 0; λr = 1; λ0 = 0.
void initialize_parameters(std::span<float> parameters, const ParameterLayout& layout, std::uint64_t seed);

}  // namespace spillway
