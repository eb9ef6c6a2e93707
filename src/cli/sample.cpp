// spillway sample: text from a checkpoint's model.
#include <fmt/format.h>

#include <charconv>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "train/checkpoint_description.hpp"
#include "train/checkpoint_model.hpp"
#include "train/sampler.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

struct Options {
  std::string checkpoint, prompt, prompt_ids, tokenizer;
  SamplingOptions sampling;
  int tokens = 100, samples = 1;
  bool ids = false;
};

void require_sensible(const Options& options) {
  if (options.checkpoint.empty())
    fail(ExitCode::usage, "spillway sample needs --checkpoint FILE; see --help");
  if (!(options.sampling.temperature >= 0))
    fail(ExitCode::usage, "--temperature {}: must be 0 or more", options.sampling.temperature);
  if (options.sampling.top_k < 0)
    fail(ExitCode::usage, "--top-k {}: must be 0 or more", options.sampling.top_k);
  if (options.tokens < 1) fail(ExitCode::usage, "--tokens {}: must be at least 1", options.tokens);
  if (options.samples < 1) fail(ExitCode::usage, "--samples {}: must be at least 1", options.samples);
  if (!options.prompt.empty() && !options.prompt_ids.empty())
    fail(ExitCode::usage, "--prompt and --prompt-ids exclude each other");
}

// "5 17,3" → 5, 17, 3.
std::vector<std::int32_t> parse_ids(const std::string& text, int vocab) {
  std::vector<std::int32_t> ids;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    std::int32_t id = -1;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || id >= vocab)
      fail(ExitCode::usage,
           "--prompt-ids '{}': must be token ids from 0 to {}, with blanks or commas between", text,
           vocab - 1);
    ids.push_back(id);
    at = next;
  }
  if (ids.empty()) fail(ExitCode::usage, "--prompt-ids names no token");
  return ids;
}

std::string ids_text(const std::vector<std::int32_t>& ids) { return fmt::format("{}", fmt::join(ids, " ")); }

// A document's beginning: the separator, then the prompt.
std::vector<std::int32_t> prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<std::int32_t> tokens = {tokenizer.separator()};
  for (const int token : tokenizer.encode(prompt)) tokens.push_back(token);
  return tokens;
}

std::optional<Tokenizer> require_tokenizer(const CheckpointReader& reader, const GptSpec& spec,
                                           const Config& config, const Options& options) {
  std::string file = options.tokenizer;
  if (file.empty() && !config.data.dir.empty()) file = config.data.dir + "/tokenizer.model";
  auto tokenizer = find_tokenizer(reader, spec, file);
  if (!tokenizer)
    fail(ExitCode::usage,
         "{}: no tokenizer in the data folder that it was trained on: name one with --data FOLDER or "
         "--tokenizer FILE, or give --prompt-ids",
         reader.file().string());
  return tokenizer;
}

int sample(const Config& config, Options& options) {
  const CheckpointReader reader = open_checkpoint(options.checkpoint);
  const auto [spec, layout] = model_of(reader);
  const bool by_ids = !options.prompt_ids.empty();
  const auto tokenizer =
      by_ids ? std::optional<Tokenizer>() : require_tokenizer(reader, spec, config, options);
  if (tokenizer) options.sampling.candidates = tokenizer->vocab();
  const std::vector<std::int32_t> prompt =
      by_ids ? parse_ids(options.prompt_ids, spec.vocab) : prompt_tokens(*tokenizer, options.prompt);
  const auto model = make_language_model(config.train, spec, read_weights(reader, layout));
  const std::uint64_t first_seed = options.sampling.seed;
  for (int i = 0; i < options.samples; ++i) {
    options.sampling.seed = first_seed + static_cast<std::uint64_t>(i);
    const auto tokens = continue_text(*model, prompt, options.tokens, options.sampling, [&](int token) {
      return tokenizer && token == tokenizer->separator();
    });
    if (by_ids || options.ids)
      std::cout << ids_text(tokens) << "\n";
    else
      std::cout << options.prompt << tokenizer->decode({tokens.begin(), tokens.end()}) << "\n";
  }
  return 0;
}

}  // namespace

int run_sample(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "sample";
  spec.summary =
      "Continues a prompt with a checkpoint's model, to the end of the document or for --tokens tokens. The "
      "model sees "
      "as many of the last tokens as its sequence is long. The tokenizer is that of the folder the "
      "checkpoint was trained on, of --data, or --tokenizer.";
  spec.usage = "spillway sample --checkpoint FILE --prompt TEXT [--device cpu|cuda] [options]";
  Options options;
  spec.options.add_options()("checkpoint", po::value(&options.checkpoint),
                             "the checkpoint, or a site's folder: then its newest")(
      "prompt", po::value(&options.prompt), "the text's beginning; may be empty")(
      "prompt-ids", po::value(&options.prompt_ids),
      "its tokens by number, as they are, instead of --prompt: needs no tokenizer, prints numbers")(
      "tokens", po::value(&options.tokens), "at most so many new tokens (100)")(
      "temperature", po::value(&options.sampling.temperature),
      "divides the logits (1); 0: always the most likely token")(
      "top-k", po::value(&options.sampling.top_k), "draw from the K most likely tokens only; 0: all (0)")(
      "seed", po::value(&options.sampling.seed), "of the draws (1); a second sample takes the next seed")(
      "samples", po::value(&options.samples), "so many texts (1)")("tokenizer", po::value(&options.tokenizer),
                                                                   "a tokenizer.model")(
      "ids", po::bool_switch(&options.ids), "print the new tokens' numbers instead of text");
  spec.aliases = {{"device", "train.device"}, {"data", "data.dir"}, {"threads", "train.threads"}};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  require_sensible(options);
  return sample(*config, options);
}

}  // namespace spillway::cli
