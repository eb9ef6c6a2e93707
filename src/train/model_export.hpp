// A model to and from a folder as other programs keep it: model.safetensors, config.json, tokenizer.model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint.hpp"
#include "io/safetensors.hpp"
#include "train/checkpoint_model.hpp"

namespace spillway {

// Without learned scalars the folder is a NanoChatForCausalLM of Hugging Face transformers, with its names of weights and
// settings. transformers has no place for the scalars: with them the weights keep nanochat's names and config.json
// nanochat's keys. Weights are F32, bit for bit. The tokenizer is a copy of its SentencePiece model; null: none.
// Creates the folder. Throws Error(bad_data) for a damaged checkpoint, Error(io) where it cannot be written.
void export_model(const CheckpointReader& reader, const CheckpointModel& model, const Tokenizer* tokenizer,
                  const std::filesystem::path& folder);

// What a folder that was exported says about its model, with either kind of names.
// Throws Error(bad_data) naming file and key where config.json is missing, damaged or describes another architecture.
CheckpointModel read_exported_model(const std::filesystem::path& folder);

// Its weights in layout order. Throws Error(bad_data) for tensors that are missing, too many or of other shapes.
std::vector<float> read_exported_weights(const SafetensorsFile& file, const CheckpointModel& model);

}  // namespace spillway
