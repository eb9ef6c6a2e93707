// All that a site needs to go on exactly where it stopped, to and from a checkpoint file.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/layout.hpp"
#include "energy/energy_ledger.hpp"
#include "io/checkpoint.hpp"
#include "train/engine.hpp"
#include "train/member.hpp"
#include "train/record.hpp"
#include "train/setup.hpp"

namespace spillway {

struct TrainingState {
  std::vector<float> parameters;  // layout order
  std::vector<HostTensor> optimizer;
  std::int64_t optimizer_updates = 0;
  std::int64_t next_block = 0;        // without a hub: the cursor in the data
  std::optional<MemberState> member;  // with a hub
  TrainingRecord record;
  EnergyLedger energy;
  std::string energy_source;  // of the last meter: "modelled", "rapl"
};

// Bytes of such a file: its tensors, its histories of so many rows, and a MiB for HDF5's own tables.
std::int64_t training_state_bytes(const ParameterLayout& layout, bool federated, std::int64_t history_rows);

// A whole checkpoint. Throws Error(io), before anything is written where the disk has too little space.
Committed write_training_state(const std::filesystem::path& file, const TrainingState& state,
                               const Config& config, const RunSetup& setup);
// The same where parameters and optimizer are not in `state` but in `tensors`.
Committed write_training_state(const std::filesystem::path& file, const TrainingState& state,
                               std::span<const TensorView> tensors, const Config& config,
                               const RunSetup& setup);
// One part of a checkpoint in several files, and their master: all of `state` but its tensors, which are in the parts.
// The master's rename makes the checkpoint; before it the parts are nothing.
Committed write_training_part(const std::filesystem::path& file, std::span<const TensorView> tensors);
Committed write_training_master(const std::filesystem::path& file, const TrainingState& state,
                                std::span<const CheckpointReader> parts, const Config& config,
                                const RunSetup& setup);
// The tensors of a state as views: parameters and optimizer, "/model/…" and "/optimizer/…"; and a member's, "/outer/…".
std::vector<TensorView> state_tensors(const TrainingState& state, const ParameterLayout& layout);
std::vector<TensorView> member_tensors(const MemberState& member, const ParameterLayout& layout);

// Throws Error(bad_data) naming the dataset that is missing, damaged or of another size than the setup's.
TrainingState read_training_state(const CheckpointReader& reader, const RunSetup& setup);

// Parts of it, for reports: no tensors are read.
GptSpec read_sizes(const CheckpointReader& reader);
std::string read_config_text(const CheckpointReader& reader);  // INI
TrainingRecord read_training_record(const CheckpointReader& reader);
EnergyLedger read_energy(const CheckpointReader& reader);

// A committed model by itself, as the vault keeps it.
void write_committed_model(const std::filesystem::path& file, const MemberState& state, const Config& config,
                           const RunSetup& setup);
MemberState read_committed_model(const CheckpointReader& reader, const RunSetup& setup);

}  // namespace spillway
