// spillway export: a checkpoint's model in a format that other programs read.
#include <fmt/format.h>

#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "train/checkpoint_description.hpp"
#include "train/model_export.hpp"

namespace po = boost::program_options;

namespace spillway::cli {

int run_export(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "export";
  spec.summary =
      "Writes a checkpoint's model to a folder: model.safetensors (F32), config.json and, where it is known, "
      "tokenizer.model (SentencePiece). Models without scalars load in Hugging Face transformers as "
      "NanoChatForCausalLM; with scalars the weights keep nanochat's names, since transformers has no place "
      "for them.";
  spec.usage = "spillway export FILE --out FOLDER [--format safetensors] [--tokenizer FILE]";
  std::string file, folder, format = "safetensors", tokenizer_file;
  spec.options.add_options()("checkpoint", po::value(&file),
                             "the checkpoint, or a site's folder; also without --checkpoint")(
      "out", po::value(&folder), "folder to write; is created")("format", po::value(&format), "safetensors")(
      "tokenizer", po::value(&tokenizer_file),
      "a tokenizer.model; else that of the folder the checkpoint was trained on");
  spec.positional.add("checkpoint", 1);
  if (!parse(spec, arguments)) return 0;
  if (file.empty() || folder.empty())
    fail(ExitCode::usage, "spillway export needs a checkpoint and --out FOLDER; see --help");
  if (format != "safetensors") fail(ExitCode::usage, "--format {}: must be safetensors", format);
  const CheckpointReader reader = open_checkpoint(file);
  const CheckpointModel model = model_of(reader);
  const auto tokenizer = find_tokenizer(reader, model.spec, tokenizer_file);
  export_model(reader, model, tokenizer ? &*tokenizer : nullptr, folder);
  std::cout << fmt::format("{}: model.safetensors ({} tensors, {} parameters), config.json{}\n", folder,
                           model.layout.parameters.size(), model.layout.total,
                           tokenizer ? ", tokenizer.model" : "; no tokenizer was found");
  if (model.spec.scalars)
    std::cout << "This model has learned residual scalars (resid_lambdas, x0_lambdas), which transformers' "
                 "NanoChatForCausalLM cannot hold:\nthe weights have nanochat's names, and transformers will "
                 "not load "
                 "them. Models trained with model.scalars = off load there.\n";
  return 0;
}

}  // namespace spillway::cli
