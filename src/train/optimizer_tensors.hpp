// Names and shapes of the optimizer's state, which follow from the parameters alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/layout.hpp"

namespace spillway {

struct TensorName {
  std::string name;  // "optimizer/muon/momentum/transformer.h.0.attn.c_q.weight"
  std::vector<std::int64_t> shape;
};

// AdamW: two moments as the parameter. Muon: a momentum as the matrix, and one variance for each row, or for each column
// where there are more of those.
inline std::vector<TensorName> optimizer_tensors(const ParameterLayout& layout) {
  std::vector<TensorName> tensors;
  for (const Parameter& parameter : layout.parameters) {
    if (parameter.group != ParameterGroup::muon) {
      tensors.push_back({"optimizer/adamw/m/" + parameter.name, parameter.shape});
      tensors.push_back({"optimizer/adamw/v/" + parameter.name, parameter.shape});
      continue;
    }
    const std::int64_t rows = parameter.shape[0], cols = parameter.shape[1];
    tensors.push_back({"optimizer/muon/momentum/" + parameter.name, parameter.shape});
    tensors.push_back(
        {"optimizer/muon/variance/" + parameter.name,
         rows >= cols ? std::vector<std::int64_t>{rows, 1} : std::vector<std::int64_t>{1, cols}});
  }
  return tensors;
}

// Elements of all of them.
inline std::int64_t optimizer_state_count(const ParameterLayout& layout) {
  std::int64_t sum = 0;
  for (const TensorName& tensor : optimizer_tensors(layout)) sum += element_count(tensor.shape);
  return sum;
}

// Elements of it that a merge between sites averages.
inline std::int64_t merged_state_count(const FederationConfig& config, const ParameterLayout& layout) {
  return config.average_optimizer ? optimizer_state_count(layout) : 0;
}

}  // namespace spillway
