#include "model/spec.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::array kHeadDims = {16, 32, 64, 128};

// Far above any model one site can train, and low enough that no product of sizes overflows 64 bits.
constexpr int kMaxLayers = 4096;
constexpr int kMaxWidth = 65536;
constexpr int kMaxVocab = 1 << 24;
constexpr int kMaxSequence = 1 << 20;

bool head_dim_supported(int head_dim) {
  return std::find(kHeadDims.begin(), kHeadDims.end(), head_dim) != kHeadDims.end();
}

void require_range(const char* key, int value, int low, int high) {
  if (value < low || value > high)
    fail(ExitCode::usage, "{} = {}: must be between {} and {}", key, value, low, high);
}

// The fewest heads of a supported size; 0 if there are none.
int fewest_heads(int width) {
  for (auto head_dim = kHeadDims.rbegin(); head_dim != kHeadDims.rend(); ++head_dim)
    if (width % *head_dim == 0) return width / *head_dim;
  return 0;
}

int resolve_heads(const ModelConfig& config, int width) {
  if (config.heads == 0) {
    const int heads = fewest_heads(width);
    if (heads == 0)
      fail(ExitCode::usage, "model.width = {}: must be a multiple of 16, the smallest supported head", width);
    return heads;
  }
  require_range("model.heads", config.heads, 1, width);
  if (width % config.heads != 0)
    fail(ExitCode::usage, "model.heads = {}: does not divide model.width = {}", config.heads, width);
  if (!head_dim_supported(width / config.heads))
    fail(ExitCode::usage,
         "model.heads = {}: gives heads of {} channels at width {}; supported: 16, 32, 64, 128", config.heads,
         width / config.heads, width);
  return config.heads;
}

int resolve_vocab(const ModelConfig& config, int data_vocab) {
  if (config.vocab == 0 && data_vocab == 0)
    fail(ExitCode::usage, "model.vocab is not set and the data does not say it; set model.vocab");
  const int vocab = config.vocab == 0 ? data_vocab : config.vocab;
  require_range("model.vocab", vocab, 2, kMaxVocab);
  if (vocab < data_vocab)
    fail(ExitCode::usage, "model.vocab = {}: smaller than the data's vocabulary of {}", vocab, data_vocab);
  return vocab;
}

}  // namespace

std::int64_t GptSpec::parameters() const {
  const std::int64_t block = 12 * static_cast<std::int64_t>(width) * width;
  return 2 * embedding_parameters() + layers * block + scalar_parameters();
}

double GptSpec::flops_per_token_nanochat() const {
  const auto in_matmuls = static_cast<double>(parameters() - embedding_parameters() - scalar_parameters());
  return 6.0 * in_matmuls + 12.0 * width * sequence * layers;
}

double GptSpec::flops_per_token_causal() const {
  return flops_per_token_nanochat() - 6.0 * width * sequence * layers;
}

GptSpec make_spec(const ModelConfig& config, int data_vocab) {
  GptSpec spec;
  if (config.layers == 0 || config.width == 0) require_range("model.depth", config.depth, 1, kMaxWidth / 64);
  spec.layers = config.layers == 0 ? config.depth : config.layers;
  spec.width = config.width == 0 ? 64 * config.depth : config.width;
  require_range("model.layers", spec.layers, 1, kMaxLayers);
  require_range("model.width", spec.width, 16, kMaxWidth);
  require_range("model.sequence", config.sequence, 1, kMaxSequence);
  spec.heads = resolve_heads(config, spec.width);
  spec.vocab = resolve_vocab(config, data_vocab);
  spec.sequence = config.sequence;
  spec.scalars = config.scalars;
  return spec;
}

}  // namespace spillway
