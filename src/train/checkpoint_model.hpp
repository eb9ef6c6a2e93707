// The model inside a checkpoint: its sizes, its weights and its tokenizer, without the rest of the training state.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/layout.hpp"
#include "data/tokenizer.hpp"
#include "io/checkpoint.hpp"
#include "model/spec.hpp"

namespace spillway {

struct CheckpointModel {
  GptSpec spec;
  ParameterLayout layout;
};

// What /sizes says, where those are sizes a model can have. Reads no tensors. Throws Error(bad_data).
CheckpointModel model_of(const CheckpointReader& reader);

// The weights in layout order: a site's own (/model), or the committed ones (/outer/base) of the vault's files.
// Throws Error(bad_data), before it allocates where a tensor is missing or of another shape than /sizes says.
std::vector<float> read_weights(const CheckpointReader& reader, const ParameterLayout& layout);

// The tokenizer that the checkpoint's data was made with: `file` where it is not empty, else tokenizer.model in the
// data folder that the checkpoint's configuration names. Nothing where there is no such file and none was asked for.
// Throws Error(bad_data) for one that is damaged or has more pieces than the model's vocabulary.
std::optional<Tokenizer> find_tokenizer(const CheckpointReader& reader, const GptSpec& spec,
                                        const std::string& file);

}  // namespace spillway
