#include "model/gpt.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/model/reference_model.hpp"
#include "tests/model/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kSeed = 7;

double largest(const float* values, std::int64_t count) {
  double result = 0;
  for (std::int64_t i = 0; i < count; ++i)
    result = std::max(result, std::abs(static_cast<double>(values[i])));
  return result;
}

// Loss and gradients of whole batches, in one or several micro-batches.
struct Run {
  Cpu device;
  GptSpec spec;
  ParameterLayout layout;
  Parameters<Cpu> parameters;
  Gpt<Cpu> model;
  float loss = 0;

  Run(const GptSpec& sizes, int micro_batch, std::int64_t logits_chunk = kLogitsChunkElements<Cpu>)
      : spec(sizes),
        layout(make_layout(sizes)),
        parameters(device, layout, true),
        model(device, sizes, micro_batch, Purpose::train, logits_chunk) {
    parameters.load(random_parameters(layout, kSeed));
    // Whatever is there must be overwritten.
    std::fill_n(parameters.gradients(), layout.total, std::nanf(""));
  }

  void pass(const Batch& batch, float scale, bool accumulate) {
    model.forward_backward(parameters.weights(), batch, parameters.gradients(), &loss, scale, accumulate);
  }
};

// The largest difference of two runs' gradients, relative to the largest gradient of the parameter.
double gradient_difference(const Run& one, const Run& two) {
  double worst = 0;
  for (const Parameter& parameter : one.layout.parameters) {
    const float* a = const_cast<Run&>(one).parameters.gradients() + parameter.offset;
    const float* b = const_cast<Run&>(two).parameters.gradients() + parameter.offset;
    const double scale = largest(a, parameter.count);
    for (std::int64_t i = 0; i < parameter.count; ++i)
      worst = std::max(worst, std::abs(double{a[i]} - b[i]) / scale);
  }
  return worst;
}

}  // namespace

TEST_CASE("all gradients agree with central differences of the float64 model") {
  const bool scalars = GENERATE(true, false);
  INFO("scalars " << scalars << ", seed " << kSeed);
  const int B = 2, T = 8;
  Run run(small_spec(scalars), B,
          5 * 24);  // logits of 5 rows at a time: 16 rows take four chunks, the last short
  const Sample sample = random_sample(run.spec, B, T, kSeed);
  const float scale = 1.0f / (B * T);
  run.pass(sample.batch(), scale, false);

  const std::vector<float> weights = random_parameters(run.layout, kSeed);
  const Vector point(weights.begin(), weights.end());
  const auto loss_along = [&](const Vector& direction, double step) {
    Vector moved = point;
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
    return scale * reference_loss(run.spec, moved, sample.tokens, sample.targets, B, T);
  };
  const auto slope = [&](const Vector& direction) {
    const double step = 1e-5;
    return (loss_along(direction, step) - loss_along(direction, -step)) / (2 * step);
  };

  std::mt19937_64 engine(kSeed);
  std::normal_distribution<double> normal;
  for (const Parameter& parameter : run.layout.parameters) {
    INFO(parameter.name);
    const float* gradient = run.parameters.gradients() + parameter.offset;
    const double most = largest(gradient, parameter.count);
    REQUIRE(most > 1e-4);  // the point was chosen so that every parameter matters
    // Single elements, the one with the largest gradient among them.
    std::uniform_int_distribution<std::int64_t> any(0, parameter.count - 1);
    const auto is_smaller = [](float a, float b) { return std::abs(a) < std::abs(b); };
    std::vector<std::int64_t> elements = {std::max_element(gradient, gradient + parameter.count, is_smaller) -
                                          gradient};
    for (int i = 0; i < 12; ++i) elements.push_back(any(engine));
    for (const std::int64_t element : elements) {
      INFO("element " << element);
      Vector direction(point.size(), 0.0);
      direction[static_cast<std::size_t>(parameter.offset + element)] = 1;
      CHECK(std::abs(gradient[element] - slope(direction)) < 2e-5 * most);
    }
    // A random direction through all elements at once.
    Vector direction(point.size(), 0.0);
    double expected = 0, squares = 0;
    for (std::int64_t i = 0; i < parameter.count; ++i) {
      const double component = normal(engine) / std::sqrt(static_cast<double>(parameter.count));
      direction[static_cast<std::size_t>(parameter.offset + i)] = component;
      expected += component * gradient[i];
      squares += double{gradient[i]} * gradient[i];
    }
    CHECK(std::abs(slope(direction) - expected) < 2e-5 * std::sqrt(squares));
  }
}

TEST_CASE("logits and losses agree with the float64 model") {
  const bool scalars = GENERATE(true, false);
  const int B = 3, T = 8;
  Run run(small_spec(scalars), B, 5 * 24);
  const Sample sample = random_sample(run.spec, B, T, kSeed);
  const std::vector<float> weights = random_parameters(run.layout, kSeed);
  const Vector point(weights.begin(), weights.end());

  float total = 0;
  run.model.forward_loss(run.parameters.weights(), sample.batch(), &total, false);
  const double expected = reference_loss(run.spec, point, sample.tokens, sample.targets, B, T);
  CHECK(total == Approx(expected).epsilon(1e-6));
  CHECK(std::accumulate(run.model.losses(), run.model.losses() + B * T, 0.0) ==
        Approx(expected).epsilon(1e-6));

  const std::vector<std::int32_t> prompt(sample.tokens.begin(), sample.tokens.begin() + 7);
  const std::vector<Vector> z = reference_logits(run.spec, point, prompt.data(), 7);
  for (const int first : {0, 6}) {
    const std::vector<float> logits = run.model.logits(run.parameters.weights(), prompt, first);
    REQUIRE(logits.size() == static_cast<std::size_t>((7 - first) * run.spec.vocab));
    double worst = 0;
    for (std::size_t i = 0; i < logits.size(); ++i)
      worst = std::max(worst, std::abs(logits[i] - z[first + i / run.spec.vocab][i % run.spec.vocab]));
    CHECK(worst < 1e-5);
  }
}

TEST_CASE("the loss of the initial model is ln V") {
  GptSpec spec = small_spec(true);
  spec.vocab = 1000;
  Run run(spec, 4);
  std::vector<float> weights(static_cast<std::size_t>(run.layout.total));
  initialize_parameters(weights, run.layout, kSeed);
  run.parameters.load(weights);
  const Sample sample = random_sample(spec, 4, 8, kSeed);
  const auto counted =
      std::count_if(sample.targets.begin(), sample.targets.end(), [](int t) { return t >= 0; });
  run.model.forward_loss(run.parameters.weights(), sample.batch(), &run.loss, false);
  CHECK(run.loss / static_cast<double>(counted) == Approx(std::log(1000.0)).margin(0.01));
}

TEST_CASE("one batch of 8 and four micro-batches of 2 give the same gradients") {
  const GptSpec spec = small_spec(true);
  const Sample sample = random_sample(spec, 8, 8, kSeed);
  const float scale = 1.0f / 64;
  Run whole(spec, 8), parts(spec, 2);
  whole.pass(sample.batch(), scale, false);
  for (int part = 0; part < 4; ++part) parts.pass(sample.part(2 * part, 2), scale, part > 0);
  CHECK(parts.loss == Approx(whole.loss).epsilon(1e-6));
  CHECK(gradient_difference(whole, parts) < 1e-5);
}

TEST_CASE("a call may be smaller than planned") {
  const GptSpec spec = small_spec(true);
  GptSpec shorter = spec;
  shorter.sequence = 5;
  Run planned(shorter, 3), larger(spec, 8);
  const Sample sample = random_sample(spec, 3, 5, kSeed);
  larger.pass(random_sample(spec, 8, 8, kSeed + 1).batch(), 1.0f,
              false);  // leaves its traces in every buffer
  planned.pass(sample.batch(), 1.0f, false);
  larger.pass(sample.batch(), 1.0f, false);
  CHECK(larger.loss == planned.loss);
  CHECK(gradient_difference(planned, larger) == 0);
}

TEST_CASE("a model for evaluation gives the same loss with the activations of one layer") {
  const GptSpec spec = small_spec(true);
  const Sample sample = random_sample(spec, 2, 8, kSeed);
  Run run(spec, 2);
  Gpt<Cpu> evaluation(run.device, spec, 2, Purpose::evaluate);
  float expected = 0, loss = 1000;
  run.model.forward_loss(run.parameters.weights(), sample.batch(), &expected, false);
  evaluation.forward_loss(run.parameters.weights(), sample.batch(), &loss, false);
  CHECK(loss == expected);
  evaluation.forward_loss(run.parameters.weights(), sample.batch(), &loss, true);
  CHECK(loss == Approx(2 * expected));
  CHECK(evaluation.memory_use().front().bytes < run.model.memory_use().front().bytes);
}

TEST_CASE("activations are ten vectors per token and layer") {
  GptSpec spec = small_spec(true);
  spec.layers = 30;
  spec.width = 512;
  spec.heads = 4;
  Run run(spec, 8);
  const MemoryUse activations = run.model.memory_use().front();
  CHECK(activations.role == "activations");
  const double vectors = static_cast<double>(activations.bytes) / (64.0 * 512 * sizeof(float) * spec.layers);
  CHECK(vectors > 10.0);
  CHECK(vectors < 10.2);  // the row statistics, x0 and the final norm
}

TEST_CASE("foreign tokens and impossible micro-batches are refused") {
  Run run(small_spec(true), 1);
  Sample sample = random_sample(run.spec, 1, 8, kSeed);
  sample.tokens[3] = 24;
  CHECK(refusal([&] { run.pass(sample.batch(), 1, false); }, ExitCode::bad_data) ==
        "token 24 at position 3 is outside the model's vocabulary of 24: data of another tokenizer");
  sample.tokens[3] = 0;
  sample.targets[7] = -2;
  CHECK(refusal([&] { run.pass(sample.batch(), 1, false); }, ExitCode::bad_data) ==
        "target -2 at position 7 is outside the model's vocabulary of 24: data of another tokenizer");
  const auto construct = [&](int micro_batch) {
    return refusal([&] { Gpt<Cpu>(run.device, run.spec, micro_batch, Purpose::train); }, ExitCode::usage);
  };
  CHECK(construct(0) == "train.micro-batch = 0: must be between 1 and 268435455 at model.sequence = 8");
  CHECK(construct(300000000) ==
        "train.micro-batch = 300000000: must be between 1 and 268435455 at model.sequence = 8");
}
