// Runs the model or the optimizers on random inputs and writes inputs and results as .npy files for the Python scripts.
//   reference_dump forward DIR LAYERS WIDTH HEADS VOCAB T scalars|plain noisy|initial [cuda]
//   reference_dump optimizers DIR LAYERS WIDTH [cuda]
// initial: the weights that training starts from; noisy: with noise on all of them, so that every weight takes part.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.hpp"
#include "core/rng.hpp"
#include "model/gpt.hpp"
#include "model/init.hpp"
#include "optim/optimizer.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "kernels/cuda/device.hpp"
#endif

using namespace spillway;

namespace {

constexpr std::uint64_t kSeed = 13;

// NumPy's format 1.0: magic, version, length of the header, a Python literal padded to 64 bytes, then the values.
template <class T>
void write_npy(const std::string& path, const T* values, const std::vector<std::int64_t>& shape) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, std::int32_t>);
  std::string extents;
  std::size_t count = 1;
  for (const std::int64_t extent : shape) {
    extents += fmt::format("{},", extent);
    count *= static_cast<std::size_t>(extent);
  }
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   std::is_same_v<T, float> ? "<f4" : "<i4", extents);
  header.append(63 - (10 + header.size()) % 64, ' ') += '\n';
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  file.put(static_cast<char>(header.size() & 0xff)).put(static_cast<char>(header.size() >> 8));
  file << header;
  file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof(T)));
  file.close();
  if (!file) fail(ExitCode::io, "cannot write {}", path);
}

std::vector<float> make_parameters(const ParameterLayout& layout, bool noisy) {
  std::vector<float> parameters(static_cast<std::size_t>(layout.total));
  initialize_parameters(parameters, layout, kSeed);
  if (noisy)
#pragma omp parallel for
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] += 0.05f * normal01(kSeed, 99, i);
  return parameters;
}

void write_parameters(const std::string& dir, const std::string& prefix, const float* values,
                      const ParameterLayout& layout) {
  for (const Parameter& parameter : layout.parameters)
    write_npy(fmt::format("{}/{}{}.npy", dir, prefix, parameter.name), values + parameter.offset,
              parameter.shape);
}

template <class Dev>
void dump_forward(Dev& device, const std::string& dir, const GptSpec& spec, bool noisy) {
  const ParameterLayout layout = make_layout(spec);
  std::mt19937_64 engine(kSeed);
  const std::vector<float> values = make_parameters(layout, noisy);
  Parameters<Dev> parameters(device, layout, false);
  parameters.load(values);

  const int T = spec.sequence;
  std::uniform_int_distribution<std::int32_t> any(0, spec.vocab - 1);
  std::vector<std::int32_t> tokens, targets;
  for (int t = 0; t < T; ++t) {
    tokens.push_back(any(engine));
    targets.push_back(t % 5 == 4 ? -1 : any(engine));
  }
  Gpt<Dev> model(device, spec, 1, Purpose::evaluate);
  Arena<Dev> arena(device, "loss");
  float *loss_total = nullptr, loss = 0;
  arena.reserve(loss_total, 1);
  arena.allocate();
  model.forward_loss(parameters.weights(), {tokens.data(), targets.data(), 1, T}, loss_total, false);
  device.copy_to_host(&loss, loss_total, sizeof loss);
  const std::vector<float> logits = model.logits(parameters.weights(), tokens, 0);

  write_parameters(dir, "", values.data(), layout);
  write_npy(dir + "/tokens.npy", tokens.data(), {T});
  write_npy(dir + "/targets.npy", targets.data(), {T});
  write_npy(dir + "/logits.npy", logits.data(), {T, spec.vocab});
  write_npy(dir + "/loss.npy", &loss, {});
}

// Random values, and a diagonal on the block matrices that keeps their singular values away from 0 (see optimizers.py).
void random_gradients(std::vector<float>& gradients, const ParameterLayout& layout, std::mt19937_64& engine) {
  constexpr float kDeviation = 1e-3f;
  std::normal_distribution<float> normal(0.0f, kDeviation);
  for (float& value : gradients) value = normal(engine);
  const float diagonal = 4 * kDeviation * std::sqrt(static_cast<float>(layout.width));
  for (const Parameter& parameter : layout.parameters) {
    if (parameter.group != ParameterGroup::muon) continue;
    const std::int64_t rows = parameter.shape[0], cols = parameter.shape[1];
    for (std::int64_t i = 0; i < std::min(rows, cols); ++i)
      gradients[static_cast<std::size_t>(parameter.offset + i * cols + i)] += diagonal;
  }
}

// Three steps with random gradients; parameters before and after each step.
template <class Dev>
void dump_optimizers(Dev& device, const std::string& dir, int layers, int width) {
  constexpr int kSteps = 3;
  constexpr std::int64_t kFirstStep = 77,
                         kRunSteps = 120;  // within the cooldown and the warm-up of the momentum
  const GptSpec spec{
      .layers = layers, .width = width, .heads = 1, .vocab = 40, .sequence = 8, .scalars = true};
  const ParameterLayout layout = make_layout(spec);
  std::mt19937_64 engine(kSeed);
  Parameters<Dev> parameters(device, layout, true);
  std::vector<float> values = make_parameters(layout, true);
  parameters.load(values);
  // The decay that 20 layers have: in small models it would outweigh the update, and it jumps where X crosses 0.
  OptimConfig config;
  config.weight_decay *= std::pow(layers / 20.0, 2);
  Optimizer<Dev> optimizer(device, layout, config, kRunSteps);
  Arena<Dev> arena(device, "gate");
  float* gate_total = nullptr;
  arena.reserve(gate_total, 1);
  arena.allocate();
  write_parameters(dir, "p0.", values.data(), layout);
  for (int step = 0; step < kSteps; ++step) {
    std::vector<float> gradients(values.size());
    random_gradients(gradients, layout, engine);
    write_parameters(dir, fmt::format("g{}.", step), gradients.data(), layout);
    device.copy_from_host(parameters.gradients(), gradients.data(), gradients.size() * sizeof(float));
    sum_of_squares(device, gate_total, parameters.gradients(), layout.total, false);
    const StepResult result = optimizer.step(parameters.master(), parameters.compute_copy(),
                                             parameters.gradients(), kFirstStep + step, gate_total);
    SPILLWAY_CHECK(result.applied);
    parameters.store(values);
    write_parameters(dir, fmt::format("p{}.", step + 1), values.data(), layout);
  }
  for (const NamedTensor& tensor : optimizer.state()) {
    std::string file = tensor.name;
    for (char& letter : file)
      if (letter == '/') letter = '.';
    std::vector<float> state(static_cast<std::size_t>(tensor.count));
    device.copy_to_host(state.data(), tensor.data, state.size() * sizeof(float));
    write_npy(fmt::format("{}/{}.npy", dir, file), state.data(), tensor.shape);
  }
}

// Whether the arguments were understood.
template <class Dev>
bool dump(Dev& device, const std::vector<std::string>& arguments) {
  const auto size = [&](std::size_t at) { return std::stoi(arguments[at]); };
  if (arguments.size() == 9 && arguments[0] == "forward") {
    const GptSpec spec{.layers = size(2),
                       .width = size(3),
                       .heads = size(4),
                       .vocab = size(5),
                       .sequence = size(6),
                       .scalars = arguments[7] == "scalars"};
    dump_forward(device, arguments[1], spec, arguments[8] == "noisy");
    return true;
  }
  if (arguments.size() == 4 && arguments[0] == "optimizers") {
    dump_optimizers(device, arguments[1], size(2), size(3));
    return true;
  }
  return false;
}

bool dump_on_device(std::vector<std::string> arguments) {
  if (arguments.empty() || arguments.back() != "cuda") {
    Cpu device;
    return dump(device, arguments);
  }
  arguments.pop_back();
#ifdef SPILLWAY_HAVE_CUDA
  Cuda device(0);
  return dump(device, arguments);
#else
  fail(ExitCode::usage, "this build has no CUDA");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (dump_on_device({argv + 1, argv + argc})) return 0;
    fmt::print(
        stderr,
        "usage: reference_dump forward DIR LAYERS WIDTH HEADS VOCAB T scalars|plain noisy|initial [cuda]\n"
        "       reference_dump optimizers DIR LAYERS WIDTH [cuda]\n");
    return static_cast<int>(ExitCode::usage);
  } catch (const std::exception& error) {
    fmt::print(stderr, "reference_dump: {}\n", error.what());
    return static_cast<int>(ExitCode::internal);
  }
}
