// The sizes of a model, and what follows from them alone.
#pragma once

#include <cstdint>

#include "core/config.hpp"

namespace spillway {

// Dimension names used everywhere: L layers, C = H·D channels, H heads of D, V tokens in the vocabulary, T positions.
struct GptSpec {
  int layers = 0;       // L
  int width = 0;        // C
  int heads = 0;        // H, as many for keys and values
  int vocab = 0;        // V
  int sequence = 0;     // T, the longest that a call may have
  bool scalars = true;  // learned λr and λ0 per layer

  int head_dim() const { return width / heads; }  // D
  int ffn() const { return 4 * width; }

  std::int64_t embedding_parameters() const { return static_cast<std::int64_t>(vocab) * width; }
  std::int64_t scalar_parameters() const { return scalars ? 2 * static_cast<std::int64_t>(layers) : 0; }
  // wte and lm_head, L·12C² in the blocks, 2L scalars.
  std::int64_t parameters() const;

  // Forward and backward, multiply and add counted apart. Two definitions, always printed together:
  // nanochat's counts attention over all T positions: 6·(parameters − wte − scalars) + 12·H·D·T·L;
  double flops_per_token_nanochat() const;
  // the causal one only over those a token may see, T/2 on average: … + 6·H·D·T·L.
  double flops_per_token_causal() const;

  bool operator==(const GptSpec&) const = default;
};

// The sizes that the section [model] asks for. nanochat's dial: layers = depth, width = 64·depth; heads = the fewest with
// D ≤ 128 that divide the width into heads of 16, 32, 64 or 128 channels (width/128 where that divides).
// data_vocab: the data's vocabulary, 0 if unknown; taken where model.vocab is 0, and model.vocab may not be smaller.
// Throws Error(usage) naming the key for sizes that cannot be.
GptSpec make_spec(const ModelConfig& config, int data_vocab);

}  // namespace spillway
