// Checkpoint files. The layout is documented in checkpoints/README.md; this reads and writes it without knowing what the
// groups mean.
#pragma once

#include <cstddef>
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
inline constexpr const char* kPartFormat = "spillway-checkpoint-part";
inline constexpr int kCheckpointVersion = 3;  // versions from 1 on are read; in one file version 2 is written

// A checkpoint is one file, or a master file whose virtual datasets lie in parts beside it.
enum class FileKind { whole, master, part };

// The n-th part (from 1) of a checkpoint: "checkpoint_00000012.part1.h5" beside "checkpoint_00000012.h5".
std::filesystem::path part_file(const std::filesystem::path& master, int part);

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

// What commit() made, and how long it took.
struct Committed {
  std::string digest;   // over all datasets
  double write_s = 0;   // from the writer's construction until HDF5 had given all bytes to the system
  double sync_s = 0;    // fsync of the file
  double rename_s = 0;  // rename and fsync of the folder
};

class CheckpointReader;

// Writes one checkpoint: everything goes to a temporary file beside the target; commit() makes it durable and renames it.
// Without commit() the temporary file is removed and nothing has changed. All members throw Error(io) naming the file.
class CheckpointWriter {
 public:
  // needed_bytes: what will be written; refused at once where the disk has less free.
  explicit CheckpointWriter(std::filesystem::path file, std::int64_t needed_bytes = 0,
                            FileKind kind = FileKind::whole);
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
  // In a master: a virtual dataset for each dataset of a part, which lies beside the master and stays there.
  void link(const CheckpointReader& part);

  // Writes the digests over all datasets and over all attributes, fsyncs file and folder, renames.
  Committed commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A dataset of numbers, piece by piece, so that a few MiB of a file are in memory however big it is.
class DatasetStream {
 public:
  DatasetStream(DatasetStream&&) noexcept;
  ~DatasetStream();

  // The next elements in row-major order, little-endian as stored; empty at the end. Valid until the next call.
  // Throws Error(bad_data) where they cannot be read, and at the end where the checksum does not match.
  std::span<const std::byte> next();

 private:
  friend class CheckpointReader;
  struct State;
  explicit DatasetStream(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The elements of a piece of a float32 dataset.
inline std::span<const float> as_floats(std::span<const std::byte> piece) {
  return {reinterpret_cast<const float*>(piece.data()), piece.size() / sizeof(float)};
}

// Reads one checkpoint, with its parts where it has some. Opening it checks everything but the datasets' bytes: format, version, all attributes, and that
// the datasets are those that were written, with sizes that fit into the file. Throws Error(bad_data) naming file and
// dataset for anything that is missing, damaged, foreign or of another shape, before allocating for it.
class CheckpointReader {
 public:
  explicit CheckpointReader(std::filesystem::path file);
  // One part by itself.
  static CheckpointReader of_part(const std::filesystem::path& file);
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const std::filesystem::path& file() const;
  std::vector<std::filesystem::path> parts() const;
  std::int64_t bytes() const;         // of the file and its parts
  const std::string& digest() const;  // over all datasets: equal for equal state, in however many parts
  std::vector<DatasetInfo> datasets() const;  // in order of their paths
  bool has(const std::string& path) const;    // a dataset or a group
  const DatasetInfo& info(const std::string& path) const;
  Attributes attributes(const std::string& group) const;  // empty where the group is missing

  // Reads a dataset whose shape must be the given one, checking its checksum.
  void read(const std::string& path, const std::vector<std::int64_t>& shape, std::span<float> out) const;
  // Reads a dataset of any size.
  std::vector<float> read_floats(const std::string& path) const;
  std::vector<double> read_doubles(const std::string& path) const;
  std::vector<std::int64_t> read_integers(const std::string& path) const;
  std::string read_text(const std::string& path) const;
  DatasetStream stream(const std::string& path) const;  // the reader must outlive it

  // Reads every dataset and compares its checksum. Throws Error(bad_data) naming the first bad one.
  void verify() const;

 private:
  struct State;
  explicit CheckpointReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// "(2048, 128)"
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace spillway
