// Runs the model or the optimizers on random inputs and writes inputs and results as .npy files for the NumPy scripts.
//   reference_dump forward DIR LAYERS WIDTH HEADS VOCAB T scalars|plain
//   reference_dump optimizers DIR
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
#include "model/gpt.hpp"
#include "model/init.hpp"
#include "optim/optimizer.hpp"

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

// Initial weights and noise, so that every weight takes part.
std::vector<float> random_parameters(const ParameterLayout& layout, std::mt19937_64& engine) {
  std::vector<float> parameters(static_cast<std::size_t>(layout.total));
  initialize_parameters(parameters, layout, kSeed);
  std::normal_distribution<float> noise(0.0f, 0.05f);
  for (float& value : parameters) value += noise(engine);
  return parameters;
}

void write_parameters(const std::string& dir, const std::string& prefix, const float* values,
                      const ParameterLayout& layout) {
  for (const Parameter& parameter : layout.parameters)
    write_npy(fmt::format("{}/{}{}.npy", dir, prefix, parameter.name), values + parameter.offset,
              parameter.shape);
}

void dump_forward(const std::string& dir, const GptSpec& spec) {
  Cpu device;
  const ParameterLayout layout = make_layout(spec);
  std::mt19937_64 engine(kSeed);
  const std::vector<float> values = random_parameters(layout, engine);
  Parameters<Cpu> parameters(device, layout, false);
  parameters.load(values);

  const int T = spec.sequence;
  std::uniform_int_distribution<std::int32_t> any(0, spec.vocab - 1);
  std::vector<std::int32_t> tokens, targets;
  for (int t = 0; t < T; ++t) {
    tokens.push_back(any(engine));
    targets.push_back(t % 5 == 4 ? -1 : any(engine));
  }
  Gpt<Cpu> model(device, spec, 1, Purpose::evaluate);
  float loss = 0;
  model.forward_loss(parameters.weights(), {tokens.data(), targets.data(), 1, T}, &loss, false);
  const std::vector<float> logits = model.logits(parameters.weights(), tokens, 0);

  write_parameters(dir, "", values.data(), layout);
  write_npy(dir + "/tokens.npy", tokens.data(), {T});
  write_npy(dir + "/targets.npy", targets.data(), {T});
  write_npy(dir + "/logits.npy", logits.data(), {T, spec.vocab});
  write_npy(dir + "/loss.npy", &loss, {});
}

// Random values, and a diagonal on the block matrices that keeps their singular values away from 0 (see optimizers.py).
void random_gradients(float* gradients, const ParameterLayout& layout, std::mt19937_64& engine) {
  constexpr float kDeviation = 1e-3f;
  std::normal_distribution<float> normal(0.0f, kDeviation);
  for (std::int64_t i = 0; i < layout.total; ++i) gradients[i] = normal(engine);
  const float diagonal = 4 * kDeviation * std::sqrt(static_cast<float>(layout.width));
  for (const Parameter& parameter : layout.parameters) {
    if (parameter.group != ParameterGroup::muon) continue;
    const std::int64_t rows = parameter.shape[0], cols = parameter.shape[1];
    for (std::int64_t i = 0; i < std::min(rows, cols); ++i)
      gradients[parameter.offset + i * cols + i] += diagonal;
  }
}

// Three steps with random gradients; parameters before and after each step.
void dump_optimizers(const std::string& dir) {
  constexpr int kSteps = 3;
  constexpr std::int64_t kFirstStep = 77,
                         kRunSteps = 120;  // within the cooldown and the warm-up of the momentum
  Cpu device;
  const GptSpec spec{.layers = 2, .width = 48, .heads = 3, .vocab = 40, .sequence = 8, .scalars = true};
  const ParameterLayout layout = make_layout(spec);
  std::mt19937_64 engine(kSeed);
  Parameters<Cpu> parameters(device, layout, true);
  parameters.load(random_parameters(layout, engine));
  Optimizer<Cpu> optimizer(device, layout, OptimConfig{}, kRunSteps);
  write_parameters(dir, "p0.", parameters.master(), layout);
  for (int step = 0; step < kSteps; ++step) {
    float* gradients = parameters.gradients();
    random_gradients(gradients, layout, engine);
    write_parameters(dir, fmt::format("g{}.", step), gradients, layout);
    float total = 0;
    sum_of_squares(device, &total, gradients, layout.total, false);
    const StepResult result =
        optimizer.step(parameters.master(), nullptr, gradients, kFirstStep + step, &total);
    SPILLWAY_CHECK(result.applied);
    write_parameters(dir, fmt::format("p{}.", step + 1), parameters.master(), layout);
  }
  for (const NamedTensor& tensor : optimizer.state()) {
    std::string file = tensor.name;
    for (char& letter : file)
      if (letter == '/') letter = '.';
    write_npy(fmt::format("{}/{}.npy", dir, file), tensor.data, tensor.shape);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() == 8 && arguments[0] == "forward") {
      const auto size = [&](std::size_t at) { return std::stoi(arguments[at]); };
      dump_forward(arguments[1], {.layers = size(2),
                                  .width = size(3),
                                  .heads = size(4),
                                  .vocab = size(5),
                                  .sequence = size(6),
                                  .scalars = arguments[7] == "scalars"});
      return 0;
    }
    if (arguments.size() == 2 && arguments[0] == "optimizers") {
      dump_optimizers(arguments[1]);
      return 0;
    }
    fmt::print(
        stderr,
        "usage: reference_dump forward DIR LAYERS WIDTH HEADS VOCAB T scalars|plain | optimizers DIR\n");
    return static_cast<int>(ExitCode::usage);
  } catch (const std::exception& error) {
    fmt::print(stderr, "reference_dump: {}\n", error.what());
    return static_cast<int>(ExitCode::internal);
  }
}
