// A training pass in FP8 against the same pass in bf16, repeats of it, and its refusal.
#include <string>
#include <vector>

#include "core/error.hpp"
#include "model/gpt.hpp"
#include "tests/kernels/support.hpp"
#include "tests/model/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

// The gradients that one micro-batch leaves after a first one, and before it.
struct Gradients {
  Vector first, both;
  double loss_of_both = 0;
};

Gradients gradients_of(const GptSpec& spec, const std::vector<float>& weights, const Sample& sample,
                       bool fp8) {
  device().fp8 = fp8;
  device().attention = AttentionChoice::own;
  const ParameterLayout layout = make_layout(spec);
  Parameters<Cuda> parameters(device(), layout, true);
  Gpt<Cuda> model(device(), spec, sample.B, Purpose::train);
  device().fp8 = false;
  parameters.load(weights);
  DeviceArray<float> loss(1);
  const auto pass = [&](bool accumulate) {
    model.forward_backward(parameters.weights(), sample.batch(), parameters.gradients(), loss.data(),
                           1.0f / static_cast<float>(sample.B * sample.T), accumulate);
    std::vector<float> host(static_cast<std::size_t>(layout.total));
    device().copy_to_host(host.data(), parameters.gradients(), host.size() * sizeof(float));
    return Vector(host.begin(), host.end());
  };
  Gradients result;
  result.first = pass(false);
  result.both = pass(true);
  result.loss_of_both = loss.values()[0] / (sample.B * sample.T);
  return result;
}

}  // namespace

TEST_CASE("loss and gradients of the model in fp8 against bf16", "[fp8][model]") {
  GptSpec spec;
  spec.layers = 3;
  const int head_dim = GENERATE(64, 128);
  spec.width = 2 * head_dim;
  spec.heads = 2;
  spec.vocab = 203;
  spec.sequence = 80;
  spec.scalars = GENERATE(true, false);
  INFO("head dimension " << head_dim << " scalars " << spec.scalars);
  const std::vector<float> weights = random_parameters(make_layout(spec), 5);
  const Sample sample = random_sample(spec, 3, spec.sequence, 6);
  const Gradients expected = gradients_of(spec, weights, sample, false);
  const Gradients actual = gradients_of(spec, weights, sample, true);
  const Gradients repeated = gradients_of(spec, weights, sample, true);
  CHECK(actual.both == repeated.both);
  CHECK(actual.loss_of_both == repeated.loss_of_both);
  CHECK(actual.loss_of_both == Approx(expected.loss_of_both).epsilon(1e-2));
  for (const Parameter& parameter : make_layout(spec).parameters) {
    if (parameter.count == spec.layers) continue;  // the scalars': small differences of large sums
    const auto begin = static_cast<std::ptrdiff_t>(parameter.offset),
               end = begin + static_cast<std::ptrdiff_t>(parameter.count);
    const auto part = [&](const Vector& all) { return Vector(all.begin() + begin, all.begin() + end); };
    INFO(parameter.name);
    // e5m2 rounds a gradient by 5 % rms, block after block; a wrong formula gives 100 %.
    CHECK(relative_error(part(actual.first), part(expected.first)) < 0.3);
    // The same sample again, under held scales and by the fused casts.
    Vector second = part(actual.both), first = part(actual.first);
    for (std::size_t i = 0; i < second.size(); ++i) second[i] -= first[i];
    CHECK(relative_error(second, part(expected.first)) < 0.3);
  }
}

TEST_CASE("fp8 models ask for sequences that are a multiple of 16", "[fp8][model]") {
  GptSpec spec;
  spec.layers = 1;
  spec.width = 64;
  spec.heads = 2;
  spec.vocab = 50;
  spec.sequence = 70;
  device().fp8 = true;
  std::string message;
  try {
    Gpt<Cuda> model(device(), spec, 1, Purpose::train);
  } catch (const Error& error) {
    message = error.what();
  }
  device().fp8 = false;
  CHECK(message == "model.sequence = 70: train.precision = fp8 needs a multiple of 16");
}
