#include "io/checkpoint.hpp"

#include <fstream>
#include <iterator>
#include <random>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

std::string write_sample(const std::filesystem::path& file, float first = 1.5f) {
  CheckpointWriter writer(file);
  const std::vector<float> weights = {first, -2, 3, 4, 5, 6};
  const std::vector<double> losses = {4.25, 3.5};
  const std::vector<std::int64_t> cursor = {0, 7, 9, 12};
  writer.write("/model/lm_head.weight", {2, 3}, std::span(weights));
  writer.write("/history/loss", {2}, std::span(losses));
  writer.write("/cursor/consumed", {2, 2}, std::span(cursor));
  writer.write("/config", "[model]\ndepth = 2\n");
  writer.attributes("/progress",
                    {{"step", std::int64_t{12}}, {"rate", 0.25}, {"site", std::string("texas")}});
  return writer.commit().digest;
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_file(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("a checkpoint gives back what was written") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  const std::string digest = write_sample(file);
  REQUIRE_FALSE(std::filesystem::exists(file.string() + ".tmp"));
  const CheckpointReader reader(file);
  REQUIRE(reader.digest() == digest);
  std::vector<float> weights(6);
  reader.read("/model/lm_head.weight", {2, 3}, weights);
  REQUIRE(weights == std::vector<float>{1.5f, -2, 3, 4, 5, 6});
  REQUIRE(reader.read_doubles("/history/loss") == std::vector<double>{4.25, 3.5});
  REQUIRE(reader.read_integers("/cursor/consumed") == std::vector<std::int64_t>{0, 7, 9, 12});
  REQUIRE(reader.read_text("/config") == "[model]\ndepth = 2\n");
  const auto progress = reader.attributes("/progress");
  REQUIRE(std::get<std::int64_t>(progress.at("step")) == 12);
  REQUIRE(std::get<double>(progress.at("rate")) == 0.25);
  REQUIRE(std::get<std::string>(progress.at("site")) == "texas");
  REQUIRE(reader.datasets().size() == 4);
  reader.verify();
}

TEST_CASE("equal state gives equal bytes, other state another digest") {
  const TemporaryFolder folder;
  const std::string digest = write_sample(folder.path() / "a.h5");
  REQUIRE(write_sample(folder.path() / "b.h5") == digest);
  REQUIRE(read_file(folder.path() / "a.h5") == read_file(folder.path() / "b.h5"));
  REQUIRE(write_sample(folder.path() / "c.h5", 1.25f) != digest);
}

TEST_CASE("a checkpoint of other sizes is refused with both shapes") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample(file);
  const CheckpointReader reader(file);
  std::vector<float> weights(8);
  REQUIRE_THROWS_WITH(
      reader.read("/model/lm_head.weight", {2, 4}, weights),
      file.string() +
          ": /model/lm_head.weight is (2, 3) but the configuration wants (2, 4); resume with the "
          "configuration of this checkpoint (spillway inspect --config)");
  REQUIRE_THROWS_WITH(reader.read_floats("/model/wte"), file.string() + ": dataset /model/wte is missing");
  REQUIRE_THROWS_WITH(reader.read_floats("/history/loss"),
                      file.string() + ": dataset /history/loss is float64, expected float32");
}

TEST_CASE("what is not a checkpoint is named for what it is") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  REQUIRE_THROWS_WITH(CheckpointReader(file), file.string() + ": no such checkpoint file; check the path");
  write_file(file, "hello");
  REQUIRE_THROWS_WITH(
      CheckpointReader(file),
      file.string() + ": not an HDF5 file: truncated at its beginning, or not a checkpoint at all");
}

TEST_CASE("a truncated checkpoint is an error at every length") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample(file);
  const std::string whole = read_file(file);
  for (std::size_t length = 0; length < whole.size(); length += 1 + whole.size() / 97) {
    INFO(length << " of " << whole.size() << " bytes");
    write_file(file, whole.substr(0, length));
    REQUIRE_THROWS_AS(CheckpointReader(file).verify(), Error);
  }
}

TEST_CASE("a flipped byte is found or harmless") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  const std::string digest = write_sample(file);
  const std::string whole = read_file(file);
  const unsigned seed = 7;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string damaged = whole;
    const std::size_t at = random() % damaged.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    write_file(file, damaged);
    INFO("byte " << at);
    try {
      const CheckpointReader reader(file);
      reader.verify();
      // Unused bytes of the format: then all content must be what was written.
      REQUIRE(reader.digest() == digest);
      REQUIRE(reader.read_floats("/model/lm_head.weight") == std::vector<float>{1.5f, -2, 3, 4, 5, 6});
    } catch (const Error& error) {
      REQUIRE((error.code() == ExitCode::bad_data || error.code() == ExitCode::io));
      ++refused;
    }
  }
  REQUIRE(refused > 20);
}

TEST_CASE("without a commit nothing changes") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  const std::string digest = write_sample(file);
  {
    CheckpointWriter writer(file);
    writer.write("/config", "half");
  }
  REQUIRE(CheckpointReader(file).digest() == digest);
  REQUIRE(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  REQUIRE_THROWS_AS(CheckpointWriter(folder.path() / "missing" / "a.h5"), Error);
}
