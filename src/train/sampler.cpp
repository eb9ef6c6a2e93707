#include "train/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.hpp"
#include "core/rng.hpp"
#include "model/gpt.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "train/gpu.hpp"
#endif

namespace spillway {
namespace {

// Streams of random numbers of one seed; initialization and data order have their own.
constexpr std::uint64_t kSamplingStream = 0x73616d706c65;  // "sample"

template <class Dev>
class DeviceLanguageModel final : public LanguageModel {
 public:
  DeviceLanguageModel(Dev device, const GptSpec& spec, std::span<const float> weights)
      : device_(std::move(device)),
        spec_(spec),
        parameters_(device_, make_layout(spec), false),
        model_(device_, spec, 1, Purpose::evaluate) {
    parameters_.load(weights);
  }

  std::vector<float> next_logits(std::span<const std::int32_t> context) override {
    const auto longest = static_cast<std::size_t>(spec_.sequence);
    const auto seen = context.last(std::min(context.size(), longest));
    return model_.logits(parameters_.weights(), seen, static_cast<int>(seen.size()) - 1);
  }

 private:
  Dev device_;
  GptSpec spec_;
  Parameters<Dev> parameters_;
  Gpt<Dev> model_;
};

}  // namespace

int choose_token(std::span<const float> logits, const SamplingOptions& options, std::int64_t position) {
  const std::size_t count =
      options.candidates > 0
          ? std::min<std::size_t>(static_cast<std::size_t>(options.candidates), logits.size())
          : logits.size();
  const auto tokens = logits.first(count);
  for (std::size_t i = 0; i < count; ++i)
    if (!std::isfinite(tokens[i]))
      fail(ExitCode::bad_data, "the model's logit of token {} is {}: its weights are broken", i, tokens[i]);
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int a, int b) {
    const float left = tokens[static_cast<std::size_t>(a)], right = tokens[static_cast<std::size_t>(b)];
    return left > right || (left == right && a < b);
  };
  if (options.temperature == 0) return *std::min_element(order.begin(), order.end(), likelier);
  if (options.top_k > 0 && static_cast<std::size_t>(options.top_k) < count) {
    std::nth_element(order.begin(), order.begin() + options.top_k, order.end(), likelier);
    order.resize(static_cast<std::size_t>(options.top_k));
    std::sort(order.begin(), order.end());
  }
  const double top = *std::max_element(tokens.begin(), tokens.end());
  std::vector<double> cumulative;
  double total = 0;
  for (const int token : order) {
    total +=
        std::exp((static_cast<double>(tokens[static_cast<std::size_t>(token)]) - top) / options.temperature);
    cumulative.push_back(total);
  }
  const double drawn = total * static_cast<double>(uniform01(options.seed, kSamplingStream,
                                                             static_cast<std::uint64_t>(position)));
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), drawn);
  return order[std::min<std::size_t>(static_cast<std::size_t>(found - cumulative.begin()), order.size() - 1)];
}

std::unique_ptr<LanguageModel> make_language_model(const TrainConfig& config, const GptSpec& spec,
                                                   std::span<const float> weights) {
  if (config.device == "cpu")
    return std::make_unique<DeviceLanguageModel<Cpu>>(Cpu(config.threads), spec, weights);
#ifdef SPILLWAY_HAVE_CUDA
  if (config.device == "cuda") {
    // Every length of context is a new shape: no trial runs for each of them.
    TrainConfig untimed = config;
    untimed.deterministic = true;
    return std::make_unique<DeviceLanguageModel<Cuda>>(open_gpu(untimed, 0), spec, weights);
  }
#endif
  fail(ExitCode::usage, "train.device = {}: this build has no such device", config.device);
}

std::vector<std::int32_t> continue_text(LanguageModel& model, std::vector<std::int32_t> context, int length,
                                        const SamplingOptions& options,
                                        const std::function<bool(std::int32_t)>& is_end) {
  const std::size_t given = context.size();
  for (int position = 0; position < length; ++position) {
    const int token = choose_token(model.next_logits(context), options, position);
    if (is_end(token)) break;
    context.push_back(token);
  }
  return {context.begin() + static_cast<std::ptrdiff_t>(given), context.end()};
}

}  // namespace spillway
