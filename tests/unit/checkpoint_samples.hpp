// Small checkpoints for tests, without training, and the commands that read them.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/process.hpp"
#include "model/layout.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "train/training_state.hpp"

namespace spillway::testing {

// One layer of width 16, vocabulary 64: 5,122 parameters, files of about 100 kB.
inline RunSetup sample_setup(bool scalars = true) {
  RunSetup setup;
  setup.spec = {1, 16, 1, 64, 16, scalars};
  setup.layout = make_layout(setup.spec);
  setup.digest = "0123456789abcdef0123456789abcdef";
  return setup;
}

inline Config sample_config() {
  Config config;
  config.site.name = "texas";
  config.train.seed = 7;
  config.resolved = "[model]\nlayers = 1\nwidth = 16\nvocab = 64\nsequence = 16\n\n[run]\ndir = somewhere\n";
  return config;
}

inline std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// All that a site keeps after `steps` steps; values depend on `seed` alone.
inline TrainingState sample_state(const RunSetup& setup, unsigned seed, std::int64_t steps = 12) {
  TrainingState state;
  state.parameters = random_values(setup.layout.total, seed);
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    state.optimizer.push_back({name, shape, random_values(element_count(shape), ++seed)});
  };
  for (const Parameter& parameter : setup.layout.parameters) {
    if (parameter.group == ParameterGroup::muon) {
      const std::int64_t rows = parameter.shape[0], cols = parameter.shape[1];
      add("optimizer/muon/momentum/" + parameter.name, parameter.shape);
      add("optimizer/muon/variance/" + parameter.name,
          rows >= cols ? std::vector<std::int64_t>{rows, 1} : std::vector<std::int64_t>{1, cols});
    } else {
      add("optimizer/adamw/m/" + parameter.name, parameter.shape);
      add("optimizer/adamw/v/" + parameter.name, parameter.shape);
    }
  }
  state.optimizer_updates = state.next_block = steps;
  for (std::int64_t step = 0; step < steps; ++step)
    state.record.steps.push_back({step, step, 6.0 - 0.1 * static_cast<double>(step), 0.5});
  state.record.validations = {{0, 6.1, 3.2}, {steps, 4.9, 2.6}};
  state.record.lineage = {{"texas", 1.7e9, 1.7e9 + 3600, 0, steps, 1000, 1.25, 90.5, ""}};
  state.record.tokens = 1000;
  state.energy_source = "modelled";
  return state;
}

// Returns the digest.
inline std::string write_sample_state(const std::filesystem::path& file, unsigned seed = 1,
                                      std::int64_t steps = 12) {
  const RunSetup setup = sample_setup();
  return write_training_state(file, sample_state(setup, seed, steps), sample_config(), setup).digest;
}

// The message with which a checkpoint is refused as bad data; "accepted" where it is not.
inline std::string refusal(const std::filesystem::path& file) {
  try {
    CheckpointReader(file).verify();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_data);
    return error.what();
  }
  return "accepted";
}

inline std::string read_bytes(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_bytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

struct CommandResult {
  int status;
  std::string output;  // standard output and error
};

// Runs a program and waits for it.
inline CommandResult run_program(const std::vector<std::string>& arguments) {
  const TemporaryFolder folder;
  ProcessOptions options;
  options.arguments = arguments;
  options.output_file = (folder.path() / "output").string();
  Process process(options);
  REQUIRE(process.wait(120));
  return {*process.status(), read_bytes(options.output_file)};
}

inline CommandResult spillway_command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), SPILLWAY_BINARY);
  return run_program(arguments);
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace spillway::testing
