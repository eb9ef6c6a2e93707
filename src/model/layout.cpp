#include "model/layout.hpp"

#include <fmt/core.h>

#include "core/error.hpp"

namespace spillway {
namespace {

void append(ParameterLayout& layout, std::string name, std::vector<std::int64_t> shape,
            ParameterGroup group) {
  const std::int64_t count = element_count(shape);
  layout.parameters.push_back({std::move(name), std::move(shape), layout.total, count, group});
  layout.total += count;
}

}  // namespace

WeightOffsets::WeightOffsets(const GptSpec& spec)
    : embedding_(spec.embedding_parameters()),
      square_(static_cast<std::int64_t>(spec.width) * spec.width),
      layers_(spec.layers) {}

ParameterLayout make_layout(const GptSpec& spec) {
  const int L = spec.layers, C = spec.width, V = spec.vocab;
  ParameterLayout layout;
  layout.layers = L;
  layout.width = C;
  append(layout, "transformer.wte.weight", {V, C}, ParameterGroup::wte);
  append(layout, "lm_head.weight", {V, C}, ParameterGroup::lm_head);

  layout.batches.push_back({"attention", layout.total, 4 * L, C, C});
  for (int i = 0; i < L; ++i)
    for (const char* part : {"c_q", "c_k", "c_v", "c_proj"})
      append(layout, fmt::format("transformer.h.{}.attn.{}.weight", i, part), {C, C}, ParameterGroup::muon);
  layout.batches.push_back({"fc", layout.total, L, 4 * C, C});
  for (int i = 0; i < L; ++i)
    append(layout, fmt::format("transformer.h.{}.mlp.c_fc.weight", i), {4 * C, C}, ParameterGroup::muon);
  layout.batches.push_back({"proj", layout.total, L, C, 4 * C});
  for (int i = 0; i < L; ++i)
    append(layout, fmt::format("transformer.h.{}.mlp.c_proj.weight", i), {C, 4 * C}, ParameterGroup::muon);

  if (spec.scalars) {
    append(layout, "resid_lambdas", {L}, ParameterGroup::lambda_r);
    append(layout, "x0_lambdas", {L}, ParameterGroup::lambda_0);
  }
  SPILLWAY_CHECK(layout.total == spec.parameters());
  return layout;
}

}  // namespace spillway
