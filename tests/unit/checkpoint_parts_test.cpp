// Checkpoints in several files: parts with the tensors, and a master that shows them as one.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.hpp"
#include "io/checkpoint_folder.hpp"
#include "tests/unit/checkpoint_parts.hpp"
#include "train/checkpoint_check.hpp"
#include "train/checkpoint_difference.hpp"
#include "train/checkpoint_model.hpp"
#include "train/writer_shares.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

std::filesystem::path named(const TemporaryFolder& folder, const std::string& name) {
  return folder.path() / name;
}

}  // namespace

TEST_CASE("a checkpoint in parts is the same checkpoint") {
  const TemporaryFolder folder;
  const auto whole = named(folder, "whole.h5"), master = named(folder, "checkpoint_00000001.h5");
  const int parts = GENERATE(1, 2, 5);
  INFO("parts " << parts);
  const std::string digest = write_sample_state(whole, 4);
  CHECK(write_sample_parts(master, 4, parts) == digest);
  const CheckpointReader reader(master);
  CHECK(reader.digest() == digest);
  CHECK(reader.parts().size() == static_cast<std::size_t>(parts));
  CHECK(reader.bytes() > static_cast<std::int64_t>(std::filesystem::file_size(whole)));
  CHECK(std::filesystem::file_size(master) < std::filesystem::file_size(whole));
  reader.verify();
  require_complete(reader);
  const RunSetup setup = sample_setup();
  const TrainingState expected = sample_state(setup, 4), state = read_training_state(reader, setup);
  CHECK(state.parameters == expected.parameters);
  CHECK(state.optimizer.size() == expected.optimizer.size());
  CHECK(state.record.steps.size() == expected.record.steps.size());
  CHECK(read_weights(reader, setup.layout) == expected.parameters);
  CHECK(compare_checkpoints(CheckpointReader(whole), reader).at("identical") == true);
}

TEST_CASE("parts are looked for beside their master, also through a link from elsewhere") {
  const TemporaryFolder folder, other;
  write_sample_parts(named(folder, "checkpoint_00000001.h5"), 4, 2);
  std::filesystem::create_symlink(named(folder, "checkpoint_00000001.h5"), named(other, "latest"));
  CheckpointReader(named(other, "latest")).verify();

  // Moved together they are still one, and the master may be called otherwise.
  const TemporaryFolder moved;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    std::filesystem::copy_file(entry.path(), moved.path() / entry.path().filename());
  std::filesystem::rename(named(moved, "checkpoint_00000001.h5"), named(moved, "mine.h5"));
  CheckpointReader(named(moved, "mine.h5")).verify();

  std::filesystem::copy_file(named(folder, "checkpoint_00000001.h5"), named(other, "alone.h5"));
  CHECK(
      refusal(named(other, "alone.h5")) ==
      named(other, "alone.h5").string() +
          ": its part checkpoint_00000001.part2.h5 is missing beside it: copy or move a checkpoint with all "
          "its parts");
}

TEST_CASE("damaged, missing and foreign parts are named") {
  const TemporaryFolder folder;
  const auto master = named(folder, "checkpoint_00000001.h5"), part = part_file(master, 2);
  write_sample_parts(master, 4, 2);
  CHECK(refusal(part) == part.string() + ": one part of a checkpoint: name the file without .part instead");
  const std::string whole = read_bytes(part);

  SECTION("a damaged tensor") {
    std::string bytes = whole;
    const auto values = CheckpointReader(master).read_floats("/model/lm_head.weight");
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(values.data()), 64));
    REQUIRE(at != std::string::npos);
    bytes[at + 5] = static_cast<char>(bytes[at + 5] ^ 1);
    write_bytes(part, bytes);
    CHECK(refusal(master) == part.string() +
                                 ": dataset /model/lm_head.weight does not match its checksum: the file is "
                                 "damaged; use an older checkpoint");
  }
  SECTION("truncated") {
    write_bytes(part, whole.substr(0, whole.size() / 2));
    CHECK(refusal(master).starts_with(part.string() + ": has no seal at its end"));
  }
  SECTION("of another checkpoint") {
    write_sample_parts(named(folder, "checkpoint_00000002.h5"), 5, 2);
    std::filesystem::copy_file(named(folder, "checkpoint_00000002.part2.h5"), part,
                               std::filesystem::copy_options::overwrite_existing);
    CHECK(
        contains(refusal(master), " is not the one in " + part.string() + ": a part of another checkpoint"));
  }
  SECTION("a whole checkpoint in its place") {
    write_sample_state(part, 4);
    CHECK(refusal(master) ==
          part.string() + ": an HDF5 file, but not a Spillway checkpoint (attribute format)");
  }
}

TEST_CASE("retention removes parts with their master, and parts without one") {
  const TemporaryFolder temporary;
  const auto names = [&] {
    std::string all;
    std::vector<std::string> sorted;
    for (const auto& entry : std::filesystem::directory_iterator(temporary.path()))
      if (entry.path().extension() == ".h5") sorted.push_back(entry.path().stem().string().substr(17));
    std::sort(sorted.begin(), sorted.end());
    for (const auto& name : sorted) all += name + " ";
    return all;
  };
  {
    CheckpointFolder folder(temporary.path());
    for (unsigned i = 1; i <= 3; ++i) {
      const auto file = folder.next_file();
      write_sample_parts(file, i, 2);
      folder.completed(file, {2, 0});
    }
    CHECK(names() == "02 02.part1 02.part2 03 03.part1 03.part2 ");
    CHECK(folder.next_file().filename() == "checkpoint_00000004.h5");
    // The newest is damaged in a part: the one before it is taken.
    write_bytes(named(temporary, "checkpoint_00000003.part1.h5"), "nothing");
    CHECK(folder.newest_valid()->file().filename() == "checkpoint_00000002.h5");
  }
  std::filesystem::copy_file(named(temporary, "checkpoint_00000002.part1.h5"),
                             named(temporary, "checkpoint_00000004.part1.h5"));
  const CheckpointFolder folder(temporary.path());  // as after a kill before the master's rename
  CHECK(names() == "02 02.part1 02.part2 03 03.part1 03.part2 ");
}

TEST_CASE("every tensor has one writer, and writers share the bytes") {
  const RunSetup setup = sample_setup();
  const int ranks = GENERATE(1, 2, 3, 8), writers = GENERATE(1, 2, 4, 100);
  const std::int64_t outer = GENERATE(0, 1) * 2 * setup.layout.total;
  INFO("ranks " << ranks << ", writers " << writers << ", outer " << outer);
  const WriterShares shares(setup.layout, writers, ranks, outer);
  CHECK(shares.writers() == std::min(writers, ranks));
  CHECK(shares.part_of(0) == 1);
  std::int64_t sum = 0, most = 0;
  int parts = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t floats = shares.floats_of(rank);
    if (shares.part_of(rank) == 0) CHECK(floats == 0);
    parts += shares.part_of(rank) > 0;
    sum += floats;
    most = std::max(most, floats + (rank == 0 ? outer : 0));
  }
  CHECK(parts == shares.writers());
  const std::int64_t all =
      (training_state_bytes(setup.layout, false, 0) - (1 << 20)) / static_cast<std::int64_t>(sizeof(float));
  CHECK(sum == all);
  // None has more than an equal share and the largest tensor, unless the leader's own is that much.
  CHECK(most <= std::max(outer, (all + outer) / shares.writers() + 64 * 16));
}
