#include "model/init.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.hpp"
#include "model/layout.hpp"
#include "tests/catch.hpp"

using namespace spillway;

namespace {

GptSpec spec_of(int layers, int vocab) {
  GptSpec spec;
  spec.layers = layers;
  spec.width = 64;
  spec.heads = 1;
  spec.vocab = vocab;
  spec.sequence = 8;
  return spec;
}

std::vector<float> initial(const ParameterLayout& layout, std::uint64_t seed) {
  std::vector<float> parameters(static_cast<std::size_t>(layout.total), -7.0f);
  initialize_parameters(parameters, layout, seed);
  return parameters;
}

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
};

Moments moments(const std::vector<float>& all, const Parameter& parameter) {
  Moments result;
  const float* values = all.data() + parameter.offset;
  const auto n = static_cast<double>(parameter.count);
  for (std::int64_t i = 0; i < parameter.count; ++i) {
    result.mean += values[i] / n;
    result.largest = std::max(result.largest, std::abs(static_cast<double>(values[i])));
  }
  for (std::int64_t i = 0; i < parameter.count; ++i)
    result.deviation += std::pow(values[i] - result.mean, 2) / n;
  result.deviation = std::sqrt(result.deviation);
  return result;
}

}  // namespace

TEST_CASE("the generator gives Philox's known answers") {
  // Random123, tests/kat_vectors: philox4x32 10.
  using Block = std::array<std::uint32_t, 4>;
  CHECK(philox(0, 0, 0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~0ull, ~0ull, ~0ull) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("initial weights follow their distributions") {
  const ParameterLayout layout = make_layout(spec_of(2, 2000));
  const std::vector<float> parameters = initial(layout, 1);
  const double bound = std::sqrt(3.0 / 64);
  for (const Parameter& parameter : layout.parameters) {
    INFO(parameter.name);
    const Moments found = moments(parameters, parameter);
    const double standard_error = 5 / std::sqrt(static_cast<double>(parameter.count));  // 5 σ of a mean
    if (parameter.group == ParameterGroup::wte || parameter.group == ParameterGroup::lm_head) {
      const double deviation = parameter.group == ParameterGroup::wte ? 1.0 : 0.001;
      CHECK(std::abs(found.mean) < standard_error * deviation);
      CHECK(found.deviation == Approx(deviation).epsilon(standard_error));
      CHECK(found.largest > 4 * deviation);  // not cut off
    } else if (parameter.name.ends_with("c_proj.weight") || parameter.group == ParameterGroup::lambda_0) {
      CHECK(found.largest == 0);
    } else if (parameter.group == ParameterGroup::lambda_r) {
      CHECK(found.mean == 1);
      CHECK(found.deviation == 0);
    } else {
      CHECK(found.largest <= bound);
      CHECK(found.largest > 0.99 * bound);
      CHECK(found.deviation == Approx(bound / std::sqrt(3.0)).epsilon(standard_error));
    }
  }
}

TEST_CASE("initial weights depend on the seed, the parameter and the element alone") {
  const ParameterLayout layout = make_layout(spec_of(2, 100));
  const std::vector<float> parameters = initial(layout, 3);
  CHECK(parameters == initial(layout, 3));
  CHECK(parameters != initial(layout, 4));
  // A larger vocabulary moves every offset but leaves the first rows and the blocks as they are.
  const ParameterLayout larger = make_layout(spec_of(2, 120));
  const std::vector<float> others = initial(larger, 3);
  for (const Parameter& parameter : layout.parameters) {
    INFO(parameter.name);
    const Parameter* same = larger.find(parameter.name);
    REQUIRE(same != nullptr);
    CHECK(std::equal(parameters.begin() + parameter.offset,
                     parameters.begin() + parameter.offset + parameter.count, others.begin() + same->offset));
  }
  // Two parameters of one shape get different values.
  const std::int64_t q = layout.find("transformer.h.0.attn.c_q.weight")->offset;
  const std::int64_t k = layout.find("transformer.h.0.attn.c_k.weight")->offset;
  CHECK_FALSE(std::equal(parameters.begin() + q, parameters.begin() + q + 64 * 64, parameters.begin() + k));
}
