#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "model/gpt.hpp"
#include "optim/optimizer.hpp"
#include "tests/catch.hpp"
#include "tests/model/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kSeed = 11;
constexpr int kBatch = 4;

// A small trainer: model, optimizer and one repeating pattern as data.
struct Trainer {
  Cpu device;
  GptSpec spec = small_spec(true);
  ParameterLayout layout = make_layout(spec);
  Parameters<Cpu> parameters{device, layout, true};
  Gpt<Cpu> model{device, spec, kBatch, Purpose::train};
  Optimizer<Cpu> optimizer;
  Sample sample{{}, {}, kBatch, 8};

  explicit Trainer(std::int64_t steps, const OptimConfig& config = {})
      : optimizer(device, layout, config, steps) {
    std::vector<float> weights(static_cast<std::size_t>(layout.total));
    initialize_parameters(weights, layout, kSeed);
    parameters.load(weights);
    for (int i = 0; i < kBatch * sample.T; ++i) {
      sample.tokens.push_back(i % 5);
      sample.targets.push_back((i + 1) % 5);
    }
  }

  // One optimizer step; the mean loss before it. `poison` is added to one gradient.
  double step(std::int64_t it, float poison = 0) {
    float loss = 0, gate_total = 0;
    const int tokens = kBatch * sample.T;
    model.forward_backward(parameters.weights(), sample.batch(), parameters.gradients(), &loss,
                           1.0f / static_cast<float>(tokens), false);
    parameters.gradients()[layout.total / 2] += poison;
    sum_of_squares(device, &gate_total, parameters.gradients(), layout.total, false);
    last = optimizer.step(parameters.master(), parameters.compute_copy(), parameters.gradients(), it,
                          &gate_total);
    return loss / tokens;
  }
  StepResult last;

  std::vector<float> everything() {
    std::vector<float> values(parameters.master(), parameters.master() + layout.total);
    for (const NamedTensor& tensor : optimizer.state())
      values.insert(values.end(), tensor.data, tensor.data + tensor.count);
    return values;
  }
};

// What an optimizer says of a configuration that it must not take.
std::string refusal(const OptimConfig& config) {
  Cpu device;
  try {
    Optimizer<Cpu>(device, make_layout(small_spec(true)), config, 10);
  } catch (const Error& error) {
    REQUIRE(error.code() == ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("thirty steps on a repeating pattern learn it") {
  Trainer trainer(30);
  double first = 0, loss = 0;
  for (int it = 0; it < 30; ++it) {
    loss = trainer.step(it);
    if (it == 0) first = loss;
    REQUIRE(trainer.last.applied);
    REQUIRE(trainer.last.gradient_norm > 0);
  }
  INFO("loss from " << first << " to " << loss);
  CHECK(first == Approx(std::log(24.0)).margin(0.01));
  CHECK(loss < 0.1 * first);
  CHECK(trainer.optimizer.updates() == 30);
}

TEST_CASE("a non-finite gradient skips the step and changes nothing") {
  Trainer trainer(10);
  trainer.step(0);
  const float poison =
      GENERATE(std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> before = trainer.everything();
  trainer.step(1, poison);
  CHECK_FALSE(trainer.last.applied);
  CHECK_FALSE(std::isfinite(trainer.last.gradient_norm));
  CHECK(trainer.optimizer.updates() == 1);
  CHECK(trainer.everything() == before);
  trainer.step(2);
  CHECK(trainer.last.applied);
  CHECK(trainer.optimizer.updates() == 2);
  CHECK(trainer.everything() != before);
}

TEST_CASE("a second optimizer with the saved state goes on with the same bits") {
  Trainer one(10), two(10);
  for (int it = 0; it < 3; ++it) one.step(it);
  two.parameters.load({one.parameters.master(), static_cast<std::size_t>(one.layout.total)});
  const auto& from = one.optimizer.state();
  const auto& to = two.optimizer.state();
  REQUIRE(from.size() == to.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    REQUIRE(from[i].name == to[i].name);
    std::copy_n(from[i].data, from[i].count, to[i].data);
  }
  two.optimizer.set_updates(one.optimizer.updates());
  for (int it = 3; it < 6; ++it) CHECK(one.step(it) == two.step(it));
  CHECK(one.everything() == two.everything());
}

TEST_CASE("the state has one named array per parameter and moment") {
  Trainer trainer(10);
  std::map<std::string, NamedTensor> by_name;
  std::set<const float*> starts;
  for (const NamedTensor& tensor : trainer.optimizer.state()) {
    INFO(tensor.name);
    CHECK(element_count(tensor.shape) == tensor.count);
    CHECK(by_name.emplace(tensor.name, tensor).second);
    CHECK(starts.insert(tensor.data).second);
  }
  CHECK(by_name.size() == 2 * trainer.layout.parameters.size());
  for (const Parameter& parameter : trainer.layout.parameters) {
    INFO(parameter.name);
    if (parameter.group != ParameterGroup::muon) {
      CHECK(by_name.at("optimizer/adamw/m/" + parameter.name).shape == parameter.shape);
      CHECK(by_name.at("optimizer/adamw/v/" + parameter.name).shape == parameter.shape);
      continue;
    }
    CHECK(by_name.at("optimizer/muon/momentum/" + parameter.name).shape == parameter.shape);
    const bool tall = parameter.shape[0] >= parameter.shape[1];
    const std::vector<std::int64_t> kept = tall ? std::vector<std::int64_t>{parameter.shape[0], 1}
                                                : std::vector<std::int64_t>{1, parameter.shape[1]};
    CHECK(by_name.at("optimizer/muon/variance/" + parameter.name).shape == kept);
  }
}

// After the first step a moment is (1 − decay) times something that its decay has no part in.
TEST_CASE("the optimizers keep as much of the past as the configuration says") {
  const auto [kind, decay] =
      GENERATE(table<std::string, double OptimConfig::*>({{"muon/momentum", &OptimConfig::muon_momentum},
                                                          {"muon/variance", &OptimConfig::muon_beta2},
                                                          {"adamw/m", &OptimConfig::adam_beta1},
                                                          {"adamw/v", &OptimConfig::adam_beta2}}));
  OptimConfig usual, longer;
  usual.momentum_warmup = longer.momentum_warmup = 0;
  longer.*decay = 0.99;
  const double ratio = (1 - longer.*decay) / (1 - usual.*decay);
  Trainer a(10, usual), b(10, longer);
  a.step(0);
  b.step(0);
  int seen = 0;
  for (std::size_t i = 0; i < a.optimizer.state().size(); ++i) {
    const NamedTensor &first = a.optimizer.state()[i], &second = b.optimizer.state()[i];
    if (first.name.find("optimizer/" + kind + "/") != 0) continue;
    INFO(first.name);
    for (std::int64_t j = 0; j < first.count; ++j) {
      if (first.data[j] != 0) ++seen;
      REQUIRE(second.data[j] == Approx(ratio * first.data[j]).epsilon(1e-4).margin(1e-30));
    }
  }
  CHECK(seen > 0);
}

TEST_CASE("decays that forget nothing are refused by the name of their key") {
  const auto [key, set] =
      GENERATE(table<std::string, double OptimConfig::*>({{"muon_momentum", &OptimConfig::muon_momentum},
                                                          {"muon_beta2", &OptimConfig::muon_beta2},
                                                          {"adam_beta1", &OptimConfig::adam_beta1},
                                                          {"adam_beta2", &OptimConfig::adam_beta2}}));
  OptimConfig config;
  config.*set = 1;
  CHECK(refusal(config) == "optim." + key + " = 1: must be at least 0 and below 1");
}

TEST_CASE("negative learning rates are refused by the name of their key") {
  OptimConfig config;
  config.muon_lr = -0.5;
  CHECK(refusal(config) == "optim.muon_lr = -0.5: must be a number that is not negative");
}
