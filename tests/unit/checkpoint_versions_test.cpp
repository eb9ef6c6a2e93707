// Files of every version of the format so far, written when it was current (tests/fixtures): they stay readable.
#include "tests/unit/checkpoint_samples.hpp"
#include "train/checkpoint_check.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

std::filesystem::path fixture(const char* name) {
  return std::filesystem::path(SPILLWAY_SOURCE_DIR) / "tests" / "fixtures" / name;
}

}  // namespace

TEST_CASE("a training checkpoint of version 1 is read") {
  const CheckpointReader reader(fixture("checkpoint_v1_training.h5"));
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

TEST_CASE("a committed model of version 1 is read") {
  const CheckpointReader reader(fixture("checkpoint_v1_committed.h5"));
  require_complete(reader);
  reader.verify();
  const MemberState state = read_committed_model(reader, sample_setup());
  CHECK(state.model.blocks == 9);
  CHECK(state.model.hash == "00112233445566778899aabbccddeeff");
  CHECK(state.base.size() == 5122);
}

TEST_CASE("what this program writes has the newest version of which there are fixtures") {
  CHECK(kCheckpointVersion == 1);
  CHECK(std::filesystem::exists(
      fixture(fmt::format("checkpoint_v{}_training.h5", kCheckpointVersion).c_str())));
}
