#include "train/model_export.hpp"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "model/layout.hpp"

namespace spillway {
namespace {

using nlohmann::json;

constexpr double kNormEpsilon = 1.1920929e-7, kLogitCap = 15, kRopeBase = 10000;

// transformers' names after "model.layers.<i>.".
constexpr std::pair<const char*, const char*> kBlockNames[] = {
    {"attn.c_q.weight", "self_attn.q_proj.weight"}, {"attn.c_k.weight", "self_attn.k_proj.weight"},
    {"attn.c_v.weight", "self_attn.v_proj.weight"}, {"attn.c_proj.weight", "self_attn.o_proj.weight"},
    {"mlp.c_fc.weight", "mlp.fc1.weight"},          {"mlp.c_proj.weight", "mlp.fc2.weight"}};

// NanoChatForCausalLM's name of a parameter.
std::string transformers_name(const std::string& name) {
  if (name == "transformer.wte.weight") return "model.embed_tokens.weight";
  const std::string blocks = "transformer.h.";
  if (!name.starts_with(blocks)) return name;
  const auto dot = name.find('.', blocks.size());
  for (const auto& [ours, theirs] : kBlockNames)
    if (name.substr(dot + 1) == ours)
      return "model.layers." + name.substr(blocks.size(), dot - blocks.size()) + "." + theirs;
  fail(ExitCode::internal, "{} has no name in transformers", name);
}

std::string exported_name(const std::string& name, const GptSpec& spec) {
  return spec.scalars ? name : transformers_name(name);
}

json transformers_config(const GptSpec& spec, const Tokenizer* tokenizer) {
  json config = {{"architectures", {"NanoChatForCausalLM"}},
                 {"model_type", "nanochat"},
                 {"vocab_size", spec.vocab},
                 {"hidden_size", spec.width},
                 {"intermediate_size", spec.ffn()},
                 {"num_hidden_layers", spec.layers},
                 {"num_attention_heads", spec.heads},
                 {"num_key_value_heads", spec.heads},
                 {"max_position_embeddings", spec.sequence},
                 {"hidden_act", "relu2"},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"rms_norm_eps", kNormEpsilon},
                 {"rope_theta", kRopeBase},
                 {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", kRopeBase}}},
                 {"final_logit_softcapping", kLogitCap},
                 {"tie_word_embeddings", false},
                 {"dtype", "float32"}};
  if (tokenizer != nullptr)
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
      config[key] = tokenizer->separator();
  return config;
}

// nanochat's keys, as in its meta_<step>.json.
json nanochat_config(const GptSpec& spec) {
  return {{"model_type", "nanochat-with-scalars"},
          {"model_config",
           {{"sequence_len", spec.sequence},
            {"vocab_size", spec.vocab},
            {"n_layer", spec.layers},
            {"n_head", spec.heads},
            {"n_kv_head", spec.heads},
            {"n_embd", spec.width}}}};
}

json read_config(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail(ExitCode::bad_data, "{}: cannot be read; check the path", file.string());
  constexpr std::size_t longest = 1 << 20;
  std::string text(longest + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > longest)
    fail(ExitCode::bad_data, "{}: more than a MiB: not a model's config", file.string());
  json document = json::parse(text, nullptr, false);
  if (!document.is_object()) fail(ExitCode::bad_data, "{}: not a JSON object: damaged", file.string());
  return document;
}

int size_of(const std::filesystem::path& file, const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer() || *found < 1 || *found > (1 << 30))
    fail(ExitCode::bad_data, "{}: {} is missing or not a size", file.string(), key);
  return found->get<int>();
}

// transformers 5 keeps it in rope_parameters, 4 by itself; what is not there is the default. 0: not a number.
double rope_base(const json& config) {
  const auto parameters = config.find("rope_parameters");
  const json& holder = parameters != config.end() && parameters->is_object() ? *parameters : config;
  const auto found = holder.find("rope_theta");
  if (found == holder.end()) return kRopeBase;
  return found->is_number() ? found->get<double>() : 0;
}

// Settings that a NanoChatForCausalLM may have and our model has not.
void require_ours(const std::filesystem::path& file, const json& config, const GptSpec& spec) {
  const json expected = transformers_config(spec, nullptr);
  for (const char* key : {"model_type", "intermediate_size", "num_key_value_heads", "hidden_act",
                          "attention_bias", "final_logit_softcapping", "tie_word_embeddings"}) {
    if (const auto found = config.find(key); found != config.end() && *found != expected.at(key))
      fail(ExitCode::bad_data, "{}: {} = {}; this program's models have {}", file.string(), key,
           found->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80), expected.at(key).dump());
  }
  const double base = rope_base(config);
  if (base != kRopeBase)
    fail(ExitCode::bad_data, "{}: rope_theta = {}; this program's models have {}", file.string(), base,
         kRopeBase);
}

}  // namespace

void export_model(const CheckpointReader& reader, const CheckpointModel& model, const Tokenizer* tokenizer,
                  const std::filesystem::path& folder) {
  const std::vector<float> weights = read_weights(reader, model.layout);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ExitCode::io, "{}: cannot be created: {}", folder.string(), error.message());
  std::vector<SafetensorsEntry> entries;
  for (const Parameter& parameter : model.layout.parameters)
    entries.push_back({exported_name(parameter.name, model.spec), parameter.shape,
                       std::span(weights).subspan(static_cast<std::size_t>(parameter.offset),
                                                  static_cast<std::size_t>(parameter.count))});
  write_safetensors(folder / "model.safetensors",
                    {{"format", "pt"}, {"spillway_checkpoint_digest", reader.digest()}}, entries);
  const json config =
      model.spec.scalars ? nanochat_config(model.spec) : transformers_config(model.spec, tokenizer);
  const std::string text = config.dump(2) + "\n";
  write_file_atomically(folder / "config.json", {bytes_of(text)});
  if (tokenizer != nullptr) tokenizer->save(folder / "tokenizer.model");
}

CheckpointModel read_exported_model(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  const json config = read_config(file);
  ModelConfig sizes;
  const bool nanochat = config.contains("model_config") && config.at("model_config").is_object();
  const json& named = nanochat ? config.at("model_config") : config;
  sizes.layers = size_of(file, named, nanochat ? "n_layer" : "num_hidden_layers");
  sizes.width = size_of(file, named, nanochat ? "n_embd" : "hidden_size");
  sizes.heads = size_of(file, named, nanochat ? "n_head" : "num_attention_heads");
  sizes.vocab = size_of(file, named, "vocab_size");
  sizes.sequence = size_of(file, named, nanochat ? "sequence_len" : "max_position_embeddings");
  sizes.scalars = nanochat;
  try {
    const GptSpec spec = make_spec(sizes, 0);
    if (!nanochat) require_ours(file, config, spec);
    return {spec, make_layout(spec)};
  } catch (const Error& error) {
    fail(ExitCode::bad_data, "{}",
         std::string(error.what()).starts_with(file.string())
             ? error.what()
             : fmt::format("{}: {}", file.string(), error.what()));
  }
}

std::vector<float> read_exported_weights(const SafetensorsFile& file, const CheckpointModel& model) {
  const auto& parameters = model.layout.parameters;
  for (const Parameter& parameter : parameters)
    if (!file.has(exported_name(parameter.name, model.spec)))
      fail(ExitCode::bad_data, "{}: tensor {} is missing", file.file().string(),
           exported_name(parameter.name, model.spec));
  if (file.names().size() != parameters.size())
    fail(ExitCode::bad_data, "{}: {} tensors, but the model of config.json has {}", file.file().string(),
         file.names().size(), parameters.size());
  // The header was checked against the file's size: what is allocated here the file has, or half of it in BF16.
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file.file()));
  if (model.layout.total > file_bytes / 2)
    fail(ExitCode::bad_data, "{}: smaller than the model of config.json", file.file().string());
  std::vector<float> weights(static_cast<std::size_t>(model.layout.total));
  for (const Parameter& parameter : parameters)
    file.read(exported_name(parameter.name, model.spec), parameter.shape,
              std::span(weights).subspan(static_cast<std::size_t>(parameter.offset),
                                         static_cast<std::size_t>(parameter.count)));
  return weights;
}

}  // namespace spillway
