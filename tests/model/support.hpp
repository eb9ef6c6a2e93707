// Small models with weights far from the initial ones, and random tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "core/error.hpp"
#include "model/gpt.hpp"
#include "model/init.hpp"

namespace spillway::test {

inline GptSpec small_spec(bool scalars) {
  GptSpec spec;
  spec.layers = 2;
  spec.width = 32;
  spec.heads = 2;
  spec.vocab = 24;
  spec.sequence = 8;
  spec.scalars = scalars;
  return spec;
}

// Initial weights plus noise, so that no gradient is zero: the blocks' outputs, the scalars and lm_head take part.
inline std::vector<float> random_parameters(const ParameterLayout& layout, std::uint64_t seed) {
  std::vector<float> parameters(static_cast<std::size_t>(layout.total));
  initialize_parameters(parameters, layout, seed);
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> noise(0.0f, 0.2f);
  for (float& value : parameters) value += noise(engine);
  return parameters;
}

// Tokens and targets of B sequences of T tokens; every seventh target is ignored.
struct Sample {
  std::vector<std::int32_t> tokens, targets;
  int B, T;

  Batch batch() const { return {tokens.data(), targets.data(), B, T}; }
  // The sequences [first, first + count).
  Batch part(int first, int count) const {
    return {tokens.data() + first * T, targets.data() + first * T, count, T};
  }
};

inline Sample random_sample(const GptSpec& spec, int B, int T, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<std::int32_t> token(0, spec.vocab - 1);
  Sample sample{{}, {}, B, T};
  for (int i = 0; i < B * T; ++i) {
    sample.tokens.push_back(token(engine));
    sample.targets.push_back(i % 7 == 6 ? -1 : token(engine));
  }
  return sample;
}

inline std::string refusal(const std::function<void()>& call, ExitCode code) {
  try {
    call();
  } catch (const Error& error) {
    REQUIRE(error.code() == code);
    return error.what();
  }
  return "accepted";
}

}  // namespace spillway::test
