#include "model/init.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/error.hpp"
#include "core/rng.hpp"

namespace spillway {
namespace {

void fill_normal(std::span<float> values, float deviation, std::uint64_t seed, std::uint64_t stream) {
#pragma omp parallel for schedule(static)
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = deviation * normal01(seed, stream, i);
}

void fill_uniform(std::span<float> values, float bound, std::uint64_t seed, std::uint64_t stream) {
#pragma omp parallel for schedule(static)
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = bound * (2.0f * uniform01(seed, stream, i) - 1.0f);
}

}  // namespace

void initialize_parameters(std::span<float> parameters, const ParameterLayout& layout, std::uint64_t seed) {
  SPILLWAY_CHECK(static_cast<std::int64_t>(parameters.size()) == layout.total);
  const auto bound = static_cast<float>(std::sqrt(3.0 / layout.width));
  for (std::size_t stream = 0; stream < layout.parameters.size(); ++stream) {
    const Parameter& parameter = layout.parameters[stream];
    const auto values = parameters.subspan(static_cast<std::size_t>(parameter.offset),
                                           static_cast<std::size_t>(parameter.count));
    switch (parameter.group) {
      case ParameterGroup::wte:
        fill_normal(values, 1.0f, seed, stream);
        break;
      case ParameterGroup::lm_head:
        fill_normal(values, 0.001f, seed, stream);
        break;
      case ParameterGroup::muon:
        // Both projections onto the residual stream (attn.c_proj, mlp.c_proj) start at 0: every block starts as identity.
        if (parameter.name.ends_with("c_proj.weight"))
          std::fill(values.begin(), values.end(), 0.0f);
        else
          fill_uniform(values, bound, seed, stream);
        break;
      case ParameterGroup::lambda_r:
        std::fill(values.begin(), values.end(), 1.0f);
        break;
      case ParameterGroup::lambda_0:
        std::fill(values.begin(), values.end(), 0.0f);
        break;
    }
  }
}

}  // namespace spillway
