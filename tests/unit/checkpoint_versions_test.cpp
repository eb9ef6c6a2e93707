// Files of every version of the format so far, written when it was current (tests/fixtures): they stay readable.
#include "tests/unit/checkpoint_samples.hpp"
#include "train/checkpoint_check.hpp"
#include "train/checkpoint_v1.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

std::filesystem::path fixture(const char* name) {
  return std::filesystem::path(SPILLWAY_SOURCE_DIR) / "tests" / "fixtures" / name;
}

}  // namespace

TEST_CASE("a training checkpoint of version 1, 2 or 3 is read") {
  const std::string name =
      GENERATE("checkpoint_v1_training.h5", "checkpoint_v2_training.h5", "checkpoint_v3_training.h5");
  const CheckpointReader reader(fixture(name.c_str()));
  CHECK(reader.digest() == "66819cfc2fb4867d88a3f50b090a6cd8");
  require_complete(reader);
  reader.verify();
  const TrainingState state = read_training_state(reader, sample_setup());
  CHECK(state.parameters.size() == 5122);
  CHECK(state.optimizer_updates == 3);
  CHECK(state.record.steps.size() == 3);
  CHECK(state.record.steps[2].loss_nats == Approx(5.8));
  CHECK(state.record.validations.size() == 2);
  REQUIRE(state.record.lineage.size() == 1);
  CHECK(state.record.lineage[0].energy_kwh == 1.25);
  REQUIRE(state.member);
  CHECK(state.member->model.version == 3);
  CHECK(state.member->consumed == BlockRanges{{9, 11}, {14, 15}});
}

TEST_CASE("energy of version 1 keeps its sums") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "v1.h5";
  {
    CheckpointWriter writer(file, 0);
    writer.attributes("/energy", {{"source", "modelled"},
                                  {"startup_kwh", 0.1},
                                  {"solo_kwh", 2.0},
                                  {"federated_kwh", 1.0},
                                  {"checkpoint_kwh", 0.0},
                                  {"drain_kwh", 0.4},
                                  {"idle_kwh", 0.0},
                                  {"inside_kwh", 3.15},
                                  {"outside_kwh", 0.35},
                                  {"inside_g", 100.0},
                                  {"outside_g", 150.0},
                                  {"unknown_kwh", 0.5}});
    writer.commit();
  }
  const EnergyLedger energy = energy_of_version_1(CheckpointReader(file));
  CHECK(energy.energy_kwh() == Approx(3.5));
  CHECK(energy.inside_kwh() == Approx(3.15));
  CHECK(energy.phase_kwh(Phase::solo) == Approx(2.0));
  CHECK(energy.phase_kwh(Phase::drain) == Approx(0.4));
  CHECK(energy.emissions_g() == Approx(250.0));
  CHECK(energy.inside_g() == Approx(100.0));
  CHECK(energy.unknown_kwh() == Approx(0.5));
}

TEST_CASE("a committed model of version 1 or 2 is read") {
  const std::string name = GENERATE("checkpoint_v1_committed.h5", "checkpoint_v2_committed.h5");
  const CheckpointReader reader(fixture(name.c_str()));
  require_complete(reader);
  reader.verify();
  const MemberState state = read_committed_model(reader, sample_setup());
  CHECK(state.model.blocks == 9);
  CHECK(state.model.hash == "00112233445566778899aabbccddeeff");
  CHECK(state.base.size() == 5122);
}

TEST_CASE("what this program writes has the newest version of which there are fixtures") {
  CHECK(kCheckpointVersion == 3);
  CHECK(std::filesystem::exists(
      fixture(fmt::format("checkpoint_v{}_training.h5", kCheckpointVersion).c_str())));
}
