// Where each parameter lies in the flat fp32 vector, as plain data. src/model/layout.hpp builds it from the sizes; the
// same object drives initialization, optimizers, reductions, checkpoints and export, so that no two of them can disagree.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

inline std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

// Which optimizer and learning rate a parameter has (OptimConfig).
enum class ParameterGroup { wte, lm_head, muon, lambda_r, lambda_0 };

struct Parameter {
  std::string name;                 // nanochat's, e.g. "transformer.h.3.attn.c_q.weight"
  std::vector<std::int64_t> shape;  // (out, in) for matrices, (L) for the learned scalars
  std::int64_t offset = 0;          // of the first element in the flat vector
  std::int64_t count = 0;           // elements
  ParameterGroup group = ParameterGroup::muon;
};

// Contiguous matrices of one shape, which Muon updates in one batched call.
struct MatrixBatch {
  std::string name;         // "attention", "fc" or "proj"
  std::int64_t offset = 0;  // of the first matrix
  int count = 0;            // matrices
  int rows = 0, cols = 0;   // of each
};

struct ParameterLayout {
  std::vector<Parameter> parameters;  // in order of their offsets, without gaps
  std::vector<MatrixBatch> batches;   // cover the group muon exactly
  std::int64_t total = 0;             // elements of the flat vector
  int layers = 0, width = 0;          // L and C: learning rates and weight decay scale with them

  // The parameter of that name; null if there is none.
  const Parameter* find(std::string_view name) const {
    for (const Parameter& parameter : parameters)
      if (parameter.name == name) return &parameter;
    return nullptr;
  }
};

// A part of the flat vector that one rank of a site updates for all.
struct OwnedPart {
  std::int64_t begin = 0, end = 0;  // elements
  int owner = 0;                    // rank
};

// A named fp32 array of which this rank holds a part in device memory: what a checkpoint writes and reads back.
struct NamedTensor {
  std::string name;                 // "optimizer/adamw/m/lm_head.weight"
  std::vector<std::int64_t> shape;  // of the whole
  float* data = nullptr;            // the part; null where this rank has none
  std::int64_t count = 0;           // elements of the part
  std::int64_t first = 0;           // its place in the whole
};

}  // namespace spillway
