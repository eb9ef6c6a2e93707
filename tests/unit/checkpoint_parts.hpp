// Checkpoints in several files for tests, as a site's ranks write them.
#pragma once

#include "tests/unit/checkpoint_samples.hpp"

namespace spillway::testing {

// The tensors dealt out in turn; returns the digest.
inline std::string write_sample_parts(const std::filesystem::path& master, unsigned seed, int parts,
                                      std::int64_t steps = 12) {
  const RunSetup setup = sample_setup();
  const TrainingState state = sample_state(setup, seed, steps);
  const std::vector<TensorView> tensors = state_tensors(state, setup.layout);
  std::vector<std::vector<TensorView>> shares(static_cast<std::size_t>(parts));
  for (std::size_t i = 0; i < tensors.size(); ++i)
    shares[i % static_cast<std::size_t>(parts)].push_back(tensors[i]);
  std::vector<CheckpointReader> written;
  for (int part = 1; part <= parts; ++part) {
    write_training_part(part_file(master, part), shares[static_cast<std::size_t>(part - 1)]);
    written.push_back(CheckpointReader::of_part(part_file(master, part)));
  }
  return write_training_master(master, state, written, sample_config(), setup).digest;
}

}  // namespace spillway::testing
