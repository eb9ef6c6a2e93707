// Files in the safetensors format: little-endian uint64 header size, a JSON header {name: {dtype, shape, data_offsets}},
// then the tensors' bytes without gaps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace spillway {

struct SafetensorsEntry {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const float> values;
};

// Writes the tensors as F32 in the given order, atomically. metadata: strings, under "__metadata__".
// Throws Error(io) naming the file.
void write_safetensors(const std::filesystem::path& file, const std::map<std::string, std::string>& metadata,
                       std::span<const SafetensorsEntry> tensors);

// Reads such a file. Opening it checks the whole header against the file's size before anything is allocated for
// tensors: sizes, offsets, no gaps, overlaps or duplicate names. All members throw Error(bad_data) naming file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path file);

  const std::filesystem::path& file() const { return file_; }
  std::vector<std::string> names() const;  // in alphabetical order
  bool has(const std::string& name) const { return tensors_.contains(name); }
  // F32 as it is, BF16 exactly; other types are refused. The tensor must have this shape.
  void read(const std::string& name, const std::vector<std::int64_t>& shape, std::span<float> out) const;

 private:
  struct Tensor {
    std::string type;
    std::vector<std::int64_t> shape;
    std::int64_t begin, end;  // in the file, bytes
  };
  [[noreturn]] void bad(const std::string& what) const;
  std::string read_header();
  void index(const std::string& header);
  void require_no_gaps() const;
  const Tensor& find(const std::string& name) const;

  std::filesystem::path file_;
  std::int64_t file_bytes_ = 0, data_begin_ = 0;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace spillway
