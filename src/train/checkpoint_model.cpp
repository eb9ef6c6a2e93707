#include "train/checkpoint_model.hpp"

#include <filesystem>
#include <sstream>

#include "core/error.hpp"
#include "model/layout.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

// The group of the weights.
const char* weights_group(const CheckpointReader& reader) {
  return reader.has("/model") ? "/model/" : "/outer/base/";
}

// data.dir of the configuration's INI text; empty where it is not set.
std::string data_folder(const std::string& ini) {
  std::istringstream lines(ini);
  bool in_section = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('[')) in_section = line == "[data]";
    if (in_section && line.starts_with("dir = ")) return line.substr(6);
  }
  return "";
}

}  // namespace

CheckpointModel model_of(const CheckpointReader& reader) {
  const GptSpec named = read_sizes(reader);
  ModelConfig config;
  config.layers = named.layers;
  config.width = named.width;
  config.heads = named.heads;
  config.vocab = named.vocab;
  config.sequence = named.sequence;
  config.scalars = named.scalars;
  try {
    const GptSpec spec = make_spec(config, 0);
    if (spec == named) return {spec, make_layout(spec)};
  } catch (const Error& error) {
    fail(ExitCode::bad_data, "{}: /sizes: {}", reader.file().string(), error.what());
  }
  fail(ExitCode::bad_data, "{}: /sizes names no possible model", reader.file().string());
}

std::vector<float> read_weights(const CheckpointReader& reader, const ParameterLayout& layout) {
  const std::string group = weights_group(reader);
  for (const Parameter& parameter : layout.parameters)
    if (const DatasetInfo& info = reader.info(group + parameter.name); info.shape != parameter.shape)
      fail(ExitCode::bad_data, "{}: dataset {} is {} but the model's sizes want {}", reader.file().string(),
           info.path, shape_text(info.shape), shape_text(parameter.shape));
  std::vector<float> weights(static_cast<std::size_t>(layout.total));
  for (const Parameter& parameter : layout.parameters)
    reader.read(group + parameter.name, parameter.shape,
                std::span(weights).subspan(static_cast<std::size_t>(parameter.offset),
                                           static_cast<std::size_t>(parameter.count)));
  return weights;
}

std::optional<Tokenizer> find_tokenizer(const CheckpointReader& reader, const GptSpec& spec,
                                        const std::string& file) {
  std::filesystem::path path = file;
  if (path.empty()) {
    const std::string folder = data_folder(read_config_text(reader));
    path = std::filesystem::path(folder) / "tokenizer.model";
    std::error_code error;
    if (folder.empty() || !std::filesystem::exists(path, error)) return std::nullopt;
  }
  Tokenizer tokenizer = Tokenizer::load(path);
  if (tokenizer.vocab() > spec.vocab)
    fail(ExitCode::bad_data,
         "{}: {} pieces, but the model's vocabulary is {}: not the tokenizer of its data; name that one",
         path.string(), tokenizer.vocab(), spec.vocab);
  return tokenizer;
}

}  // namespace spillway
