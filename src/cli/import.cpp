// spillway import: a checkpoint from a model that was exported.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "train/model_export.hpp"
#include "train/optimizer_tensors.hpp"
#include "train/run_digest.hpp"
#include "train/training_state.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// The configuration that the checkpoint will say it was written with: defaults and the model's sizes.
Config config_of(const GptSpec& model) {
  CommandSpec spec;
  spec.name = "import";
  return *parse(spec,
                {"--site.name", "import", "--model.layers", std::to_string(model.layers), "--model.width",
                 std::to_string(model.width), "--model.heads", std::to_string(model.heads), "--model.vocab",
                 std::to_string(model.vocab), "--model.sequence", std::to_string(model.sequence),
                 "--model.scalars", model.scalars ? "on" : "off"});
}

// Step 0 with these weights: an optimizer that has seen nothing.
TrainingState initial_state(std::vector<float> weights, const ParameterLayout& layout) {
  TrainingState state;
  state.parameters = std::move(weights);
  for (const TensorName& tensor : optimizer_tensors(layout)) {
    std::size_t count = 1;
    for (const std::int64_t extent : tensor.shape) count *= static_cast<std::size_t>(extent);
    state.optimizer.push_back({tensor.name, tensor.shape, std::vector<float>(count, 0.0f)});
  }
  state.energy_source = "none";
  return state;
}

}  // namespace

int run_import(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "import";
  spec.summary =
      "Makes a checkpoint at step 0 from a folder with model.safetensors and config.json, as export writes "
      "it or "
      "transformers a NanoChatForCausalLM (F32 or BF16, one file). sample takes it, and train --resume FILE.";
  spec.usage = "spillway import FOLDER --out FILE";
  std::string folder, file;
  spec.options.add_options()("from", po::value(&folder), "the folder; also without --from")(
      "out", po::value(&file), "the checkpoint to write; must not be there yet");
  spec.positional.add("from", 1);
  if (!parse(spec, arguments)) return 0;
  if (folder.empty() || file.empty())
    fail(ExitCode::usage, "spillway import needs a folder and --out FILE; see --help");
  if (std::filesystem::exists(file)) fail(ExitCode::usage, "{}: is there already; name another file", file);
  const CheckpointModel model = read_exported_model(folder);
  const SafetensorsFile weights(std::filesystem::path(folder) / "model.safetensors");
  const Config config = config_of(model.spec);
  const RunSetup setup = {model.spec, model.layout, run_digest(config, model.spec), ""};
  const std::string digest =
      write_training_state(file, initial_state(read_exported_weights(weights, model), model.layout), config,
                           setup)
          .digest;
  std::cout << fmt::format("{}: {} parameters, digest {}\n", file, model.layout.total, digest);
  return 0;
}

}  // namespace spillway::cli
