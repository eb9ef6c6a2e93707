// Checkpoint files. The layout is documented in checkpoints/README.md; this reads and writes it without knowing what the
// groups mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace spillway {

inline constexpr const char* kCheckpointFormat = "spillway-checkpoint";
inline constexpr int kCheckpointVersion = 1;

using Attribute = std::variant<std::int64_t, double, std::string>;
using Attributes = std::map<std::string, Attribute>;

// A dataset: its path, shape, type and stored checksum.
struct DatasetInfo {
  std::string path;  // "/model/lm_head.weight"
  std::vector<std::int64_t> shape;
  std::string type;      // "float32", "float64", "int64" or "string"
  std::string checksum;  // xxh3-128 of the bytes, hex
  std::int64_t count() const;
};

// Writes one checkpoint: everything goes to a temporary file beside the target; commit() makes it durable and renames it.
// Without commit() the temporary file is removed and nothing has changed. All members throw Error(io) naming the file.
class CheckpointWriter {
 public:
  explicit CheckpointWriter(std::filesystem::path file);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();

  // Groups on the way are made. path begins with '/'.
  void write(const std::string& path, const std::vector<std::int64_t>& shape, std::span<const float> values);
  void write(const std::string& path, const std::vector<std::int64_t>& shape, std::span<const double> values);
  void write(const std::string& path, const std::vector<std::int64_t>& shape,
             std::span<const std::int64_t> values);
  void write(const std::string& path, const std::string& text);
  void attributes(const std::string& group, const Attributes& values);

  // Writes the digest over all dataset checksums, fsyncs file and folder, renames. Returns the digest.
  std::string commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads one checkpoint. Throws Error(bad_data) naming file and dataset for anything that is missing, damaged, foreign or
// of another shape, before allocating for it.
class CheckpointReader {
 public:
  explicit CheckpointReader(std::filesystem::path file);
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const std::filesystem::path& file() const;
  const std::string& digest() const;  // over all datasets
  std::vector<DatasetInfo> datasets() const;
  bool has(const std::string& path) const;
  DatasetInfo info(const std::string& path) const;
  Attributes attributes(const std::string& group) const;  // empty where the group is missing

  // Reads a dataset whose shape must be the given one, checking its checksum.
  void read(const std::string& path, const std::vector<std::int64_t>& shape, std::span<float> out) const;
  // Reads a dataset of any size.
  std::vector<float> read_floats(const std::string& path) const;
  std::vector<double> read_doubles(const std::string& path) const;
  std::vector<std::int64_t> read_integers(const std::string& path) const;
  std::string read_text(const std::string& path) const;

  // Reads every dataset and compares its checksum, and the digest. Throws Error(bad_data) naming the first bad one.
  void verify() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "(2048, 128)"
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace spillway
