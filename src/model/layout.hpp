// The order of the parameters in the flat vector.
#pragma once

#include "core/layout.hpp"
#include "model/spec.hpp"

namespace spillway {

// wte (V,C) | lm_head (V,C) | per layer Wq, Wk, Wv, Wo (C,C) | all Wfc (4C,C) | all Wproj (C,4C) | λr (L) | λ0 (L).
// The matrices of one shape are contiguous for Muon, and Wq, Wk, Wv of a layer are one (3C,C) matrix for one GEMM.
// Without scalars the two last are absent.
ParameterLayout make_layout(const GptSpec& spec);

// Offsets of what the model multiplies by, in elements.
struct WeightOffsets {
  explicit WeightOffsets(const GptSpec& spec);

  std::int64_t wte() const { return 0; }
  std::int64_t lm_head() const { return embedding_; }
  std::int64_t qkv(int layer) const { return 2 * embedding_ + 4 * layer * square_; }  // (3C, C)
  std::int64_t out(int layer) const { return qkv(layer) + 3 * square_; }              // (C, C)
  std::int64_t fc(int layer) const { return qkv(layers_) + 4 * layer * square_; }     // (4C, C)
  std::int64_t proj(int layer) const { return fc(layers_) + 4 * layer * square_; }    // (C, 4C)
  std::int64_t lambda_r(int layer) const { return proj(layers_) + layer; }
  std::int64_t lambda_0(int layer) const { return proj(layers_) + layers_ + layer; }

 private:
  std::int64_t embedding_, square_;
  int layers_;
};

}  // namespace spillway
