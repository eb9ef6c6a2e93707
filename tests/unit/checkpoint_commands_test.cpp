// inspect, verify, diff and ls, run as a user runs them.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/unit/checkpoint_samples.hpp"

using namespace spillway;
using namespace spillway::testing;

namespace {

// In the middle of /model/transformer.wte.weight of a sample state with seed 1; no attribute changes.
void flip_bit_of_weights(const std::filesystem::path& file) {
  std::string bytes = read_bytes(file);
  const float marker = sample_state(sample_setup(), 1).parameters[100];
  const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&marker), sizeof marker));
  REQUIRE(at != std::string::npos);
  bytes[at] ^= 1;
  write_bytes(file, bytes);
}

}  // namespace

TEST_CASE("inspect shows what a checkpoint holds") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "checkpoint_00000001.h5").string();
  const std::string digest = write_sample_state(file);
  const CommandResult text = spillway_command({"inspect", file});
  INFO(text.output);
  CHECK(text.status == 0);
  CHECK(contains(text.output, "digest      " + digest));
  CHECK(contains(text.output,
                 "1 layers, width 16, 1 heads, vocabulary 64, sequence 16, scalars on: 5122 parameters"));
  CHECK(contains(text.output, "step 12, 1000 tokens at this site"));
  CHECK(contains(text.output, "6.0000 → 4.9000 nats per token over 12 rows"));
  CHECK(contains(text.output, "█"));
  CHECK(contains(text.output, "0–12         1000      1.250        90.5  fresh start"));

  const CommandResult json = spillway_command({"inspect", file, "--json", "--tensors", "--history"});
  REQUIRE(json.status == 0);
  const auto document = nlohmann::json::parse(json.output);
  CHECK(document.at("digest") == digest);
  CHECK(document.at("progress").at("step") == 12);
  CHECK(document.at("history").size() == 12);
  CHECK(document.at("data").at("next_block") == 12);
  CHECK(document.at("config").get<std::string>().starts_with("[model]\n"));
  CHECK(document.at("lineage")[0].at("started") == "2023-11-14T22:13:20Z");
  // 9 parameters, and two arrays of optimizer state for each.
  REQUIRE(document.at("tensors").size() == 30);
  const TrainingState state = sample_state(sample_setup(), 1);
  const auto& tensors = document.at("tensors");
  const auto lm_head = std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.at("name") == "model/lm_head.weight";
  });
  REQUIRE(lm_head != tensors.end());
  double squares = 0;
  for (std::size_t i = 64 * 16; i < 2 * 64 * 16; ++i)
    squares += static_cast<double>(state.parameters[i]) * state.parameters[i];
  CHECK(lm_head->at("norm").get<double>() == Approx(std::sqrt(squares)));
  CHECK(lm_head->at("non_finite") == 0);
  CHECK(lm_head->at("shape") == nlohmann::json({64, 16}));

  CHECK(contains(spillway_command({"inspect", folder.path().string()}).output, digest));
  CHECK(spillway_command({"inspect", file, "--config"}).output == sample_config().resolved);
  CHECK(contains(spillway_command({"inspect", file, "--history"}).output,
                 "step,block,loss_nats,gradient_norm\n0,0,6,0.5\n"));
  CHECK(contains(spillway_command({"inspect", file, "--energy"}).output, "source           modelled\n"));
}

TEST_CASE("bad input of inspect says what is wrong") {
  const TemporaryFolder folder;
  CommandResult outcome = spillway_command({"inspect"});
  CHECK(outcome.status == 64);
  CHECK(contains(outcome.output, "spillway inspect needs a checkpoint; see --help"));
  outcome = spillway_command({"inspect", "/nowhere/x.h5"});
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output, "/nowhere/x.h5: no such checkpoint file; check the path"));
  outcome = spillway_command({"inspect", folder.path().string()});
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output, ": there are no checkpoints in this folder"));
  write_bytes(folder.path() / "text.h5", "no HDF5 here");
  outcome = spillway_command({"inspect", (folder.path() / "text.h5").string()});
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output, "not an HDF5 file"));
}

TEST_CASE("verify names the dataset that is bad, and what is missing") {
  const TemporaryFolder folder;
  const auto good = folder.path() / "texas" / "checkpoint_00000001.h5",
             bad = folder.path() / "texas" / "checkpoint_00000002.h5";
  std::filesystem::create_directory(folder.path() / "texas");
  write_sample_state(good);
  CommandResult outcome = spillway_command({"verify", folder.path().string()});
  CHECK(outcome.status == 0);
  CHECK(contains(outcome.output, good.string() + ": whole, 37 datasets"));

  const RunSetup setup = sample_setup();
  TrainingState state = sample_state(setup, 2);
  state.optimizer.pop_back();
  write_training_state(bad, state, sample_config(), setup);
  outcome = spillway_command({"verify", folder.path().string()});
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output, bad.string() + ": dataset /optimizer/adamw/v/x0_lambdas is missing"));
  CHECK(contains(outcome.output, good.string() + ": whole"));

  flip_bit_of_weights(good);
  outcome = spillway_command({"verify", good.string()});
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output,
                 good.string() + ": dataset /model/transformer.wte.weight does not match its checksum"));
}

TEST_CASE("diff tells tensors, progress and lineage apart") {
  const TemporaryFolder folder;
  const auto a = folder.path() / "a.h5", b = folder.path() / "b.h5", c = folder.path() / "c.h5";
  const RunSetup setup = sample_setup();
  const std::string digest = write_sample_state(a);
  TrainingState state = sample_state(setup, 1);
  state.record.lineage.push_back({"texas", 1.8e9, 1.9e9, 12, 13, 80, 0.1, 9, digest});
  state.next_block = 13;
  state.parameters[64 * 16] += 0.5f;  // first element of lm_head
  write_training_state(b, state, sample_config(), setup);
  write_sample_state(c);

  auto diff = [&](const std::filesystem::path& x, const std::filesystem::path& y) {
    const CommandResult outcome = spillway_command({"diff", x.string(), y.string(), "--json"});
    REQUIRE(outcome.status == 0);
    return nlohmann::json::parse(outcome.output);
  };
  const auto changed = diff(a, b);
  CHECK(changed.at("lineage") == "b continues a");
  CHECK_FALSE(changed.at("identical").get<bool>());
  CHECK(changed.at("progress") == nlohmann::json({{"next_block", {12, 13}}, {"step", {12, 13}}}));
  REQUIRE(changed.at("tensors").size() == 1);
  CHECK(changed.at("tensors")[0].at("name") == "model/lm_head.weight");
  CHECK(changed.at("tensors")[0].at("max_abs").get<double>() == Approx(0.5));
  CHECK(changed.at("tensors_equal") == 29);
  CHECK(diff(b, a).at("lineage") == "a continues b");
  CHECK(diff(a, c).at("identical").get<bool>());
  CHECK(contains(spillway_command({"diff", a.string(), c.string()}).output,
                 "identical: every dataset is the same"));
  CHECK(spillway_command({"diff", a.string()}).status == 64);
}

TEST_CASE("diff reads what it calls identical, and names the dataset that is damaged") {
  const TemporaryFolder folder;
  const auto a = folder.path() / "a.h5", b = folder.path() / "b.h5";
  write_sample_state(a);
  write_sample_state(b);
  flip_bit_of_weights(b);
  const bool as_first = GENERATE(true, false), as_json = GENERATE(true, false);
  std::vector<std::string> arguments = {"diff", (as_first ? b : a).string(), (as_first ? a : b).string()};
  if (as_json) arguments.emplace_back("--json");
  CommandResult outcome = spillway_command(arguments);
  INFO(outcome.output);
  CHECK(outcome.status == 65);
  CHECK(contains(outcome.output,
                 b.string() + ": dataset /model/transformer.wte.weight does not match its checksum"));
  CHECK_FALSE(contains(outcome.output, "identical"));

  arguments.emplace_back("--trust-checksums");
  outcome = spillway_command(arguments);
  CHECK(outcome.status == 0);
  if (as_json)
    CHECK(nlohmann::json::parse(outcome.output).at("checksums") == "trusted");
  else
    CHECK(contains(outcome.output,
                   "identical by the stored checksums; the data were not read (--trust-checksums)"));
}

TEST_CASE("diff names histories that differ, and reads what differs too") {
  const TemporaryFolder folder;
  const auto a = folder.path() / "a.h5", b = folder.path() / "b.h5";
  const RunSetup setup = sample_setup();
  write_sample_state(a);
  TrainingState state = sample_state(setup, 1);
  state.record.steps.back().loss_nats += 1;
  write_training_state(b, state, sample_config(), setup);
  const CommandResult outcome = spillway_command({"diff", a.string(), b.string()});
  INFO(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(contains(outcome.output, "state     different"));
  CHECK(contains(outcome.output, "tensors   30 the same, 0 differ"));
  CHECK(contains(outcome.output, "others    1 differ: history/loss_nats"));
  flip_bit_of_weights(b);
  CHECK(spillway_command({"diff", a.string(), b.string()}).status == 65);
}

TEST_CASE("ls shows the jobs of a run as a tree") {
  const TemporaryFolder folder;
  for (const char* site : {"california", "texas"}) {
    std::filesystem::create_directory(folder.path() / site);
    write_sample_state(folder.path() / site / "checkpoint_00000001.h5");
  }
  const CommandResult outcome = spillway_command({"ls", folder.path().string()});
  INFO(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(contains(outcome.output, "├─ california  step 12, 1000 tokens"));
  CHECK(contains(outcome.output,
                 "│  └─ 2023-11-14T22:13:20Z – 2023-11-14T23:13:20Z  steps 0–12  1000 tokens  1.250 kWh"));
  CHECK(contains(outcome.output, "└─ texas"));
  CHECK(spillway_command({"ls", "/nowhere"}).status == 65);
}
