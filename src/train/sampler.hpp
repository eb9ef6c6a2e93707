// Continues a text, token by token, with a trained model on a device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "model/spec.hpp"

namespace spillway {

struct SamplingOptions {
  double temperature = 1;  // 0: always the most likely token
  int top_k = 0;           // only the k most likely tokens; 0: all
  std::uint64_t seed = 1;
  int candidates = 0;  // tokens with ids below this only; 0: the whole vocabulary
};

// The token after `logits`: drawn from softmax(logits / temperature) over the top_k largest, of equal ones those with
// the lowest ids. `position` counts draws: the same (seed, position, logits) give the same token.
// Throws Error(bad_data) where a logit is not finite: the model is broken.
int choose_token(std::span<const float> logits, const SamplingOptions& options, std::int64_t position);

// A model ready to run: weights on a device, memory for one sequence.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  // Softcapped logits after the last token: (V). Of a context that is longer than the model's sequence the last part
  // counts. Throws Error(bad_data) for tokens outside the vocabulary.
  virtual std::vector<float> next_logits(std::span<const std::int32_t> context) = 0;
};

// weights: in layout order. device and its settings are those of the section [train]. Throws Error(usage) for a device
// that this build or machine has not, or where memory is short.
std::unique_ptr<LanguageModel> make_language_model(const TrainConfig& config, const GptSpec& spec,
                                                   std::span<const float> weights);

// Up to `length` tokens that continue the context; ends early at a token for which is_end says so, which is left out.
std::vector<std::int32_t> continue_text(LanguageModel& model, std::vector<std::int32_t> context, int length,
                                        const SamplingOptions& options,
                                        const std::function<bool(std::int32_t)>& is_end);

}  // namespace spillway
