#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/hash.hpp"
#include "io/checkpoint.hpp"
#include "io/dataset_stream.hpp"
#include "io/digest.hpp"
#include "io/hdf5.hpp"
#include "io/seal.hpp"

namespace spillway {

using hdf5::Handle;

struct CheckpointReader::State {
  std::filesystem::path file;
  Handle handle;
  std::string digest;
  std::map<std::string, DatasetInfo> datasets;  // by path
  std::map<std::string, Attributes> groups;     // by path

  std::string name() const { return file.string(); }
  [[noreturn]] void bad(const std::string& what) const { fail(ExitCode::bad_data, "{}: {}", name(), what); }

  void open();
  void check_format() const;
  void index();
  void check_digests();
  DatasetInfo inspect(const std::string& path, double file_bytes) const;
  std::string root_text(const char* attribute) const;

  // Reads all of a dataset and compares its checksum.
  template <class Value>
  void read(const DatasetInfo& info, const char* type, std::span<Value> out) const;
};

std::int64_t DatasetInfo::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    if (extent == 0) return 0;
    product *= extent;
  }
  return product;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", extent);
  return "(" + text + ")";
}

void CheckpointReader::State::open() {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) bad("no such checkpoint file; check the path");
  if (access(file.c_str(), R_OK) != 0)
    fail(ExitCode::io, "{}: cannot be read: {}", name(), std::strerror(errno));
  if (H5Fis_hdf5(file.c_str()) <= 0)
    bad("not an HDF5 file: truncated at its beginning, or not a checkpoint at all");
  check_seal(file);
  const Handle access_list = hdf5::file_access();
  const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDONLY, access_list.get());
  if (id < 0) bad("cannot be opened as HDF5 (" + hdf5::last_error() + "): truncated or damaged");
  handle = Handle(id, H5Fclose);
}

std::string CheckpointReader::State::root_text(const char* attribute) const {
  const auto value = hdf5::read_attribute(handle.get(), attribute);
  const auto* text = value ? std::get_if<std::string>(&*value) : nullptr;
  return text != nullptr ? *text : "";
}

void CheckpointReader::State::check_format() const {
  if (root_text("format") != kCheckpointFormat)
    bad("an HDF5 file, but not a Spillway checkpoint (attribute format)");
  const auto value = hdf5::read_attribute(handle.get(), "version");
  const auto* version = value ? std::get_if<std::int64_t>(&*value) : nullptr;
  if (version == nullptr) bad("its attribute version is missing or damaged");
  if (*version < 1 || *version > kCheckpointVersion)
    bad(fmt::format("checkpoint format version {}; this program reads versions 1 to {}: use a newer spillway",
                    *version, kCheckpointVersion));
}

void CheckpointReader::State::index() {
  const auto contents = hdf5::list_contents(handle.get());
  if (!contents) bad("its contents cannot be listed: " + hdf5::last_error());
  for (const auto& path : contents->groups) {
    const Handle group(H5Gopen2(handle.get(), path.c_str(), H5P_DEFAULT), H5Gclose);
    auto attributes = group ? hdf5::read_attributes(group.get()) : std::nullopt;
    if (!attributes) bad("the attributes of group " + path + " are damaged");
    groups[path] = std::move(*attributes);
  }
  const auto file_bytes = static_cast<double>(std::filesystem::file_size(file));
  for (const auto& path : contents->datasets) datasets[path] = inspect(path, file_bytes);
}

DatasetInfo CheckpointReader::State::inspect(const std::string& path, double file_bytes) const {
  const Handle dataset(H5Dopen2(handle.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) bad("dataset " + path + " is missing");
  const Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const Handle type(H5Dget_type(dataset.get()), H5Tclose);
  DatasetInfo info;
  info.path = path;
  constexpr int most_dimensions = 8;
  const int rank = H5Sget_simple_extent_ndims(space.get());
  hsize_t extent[most_dimensions] = {};
  if (rank < 0 || rank > most_dimensions || H5Sget_simple_extent_dims(space.get(), extent, nullptr) < 0)
    bad("dataset " + path + " has damaged dimensions");
  // What a file claims must fit into the file, before anything is allocated for it.
  double claimed = static_cast<double>(H5Tget_size(type.get()));
  for (int i = 0; i < rank; ++i) {
    claimed *= static_cast<double>(extent[i]);
    info.shape.push_back(static_cast<std::int64_t>(extent[i]));
  }
  if (claimed > file_bytes) bad("dataset " + path + " claims more bytes than the file has: damaged");
  info.type = hdf5::type_name(type.get());
  if (info.type.empty()) bad("dataset " + path + " has a type that checkpoints do not use");
  const auto checksum = hdf5::read_attribute(dataset.get(), "xxh3");
  if (!checksum || !std::holds_alternative<std::string>(*checksum))
    bad("dataset " + path + " has no checksum");
  info.checksum = std::get<std::string>(*checksum);
  return info;
}

void CheckpointReader::State::check_digests() {
  digest = root_text("digest");
  if (digest.empty()) bad("it has no digest: it was never finished");
  std::map<std::string, std::string> checksums;
  for (const auto& [path, info] : datasets) checksums[path] = info.checksum;
  if (datasets_digest(checksums) != digest)
    bad("its digest does not match its datasets: some are missing, added or replaced");
  if (attributes_digest(groups) != root_text("attributes_digest"))
    bad("its attributes do not match their digest: some are missing, added or changed");
}

CheckpointReader::CheckpointReader(std::filesystem::path file) : state_(std::make_unique<State>()) {
  hdf5::silence_error_stack();
  state_->file = std::move(file);
  state_->open();
  state_->check_format();
  state_->index();
  state_->check_digests();
}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const std::filesystem::path& CheckpointReader::file() const { return state_->file; }
const std::string& CheckpointReader::digest() const { return state_->digest; }

std::vector<DatasetInfo> CheckpointReader::datasets() const {
  std::vector<DatasetInfo> result;
  for (const auto& [path, found] : state_->datasets) result.push_back(found);
  return result;
}

bool CheckpointReader::has(const std::string& path) const {
  return state_->datasets.contains(path) || state_->groups.contains(path);
}

const DatasetInfo& CheckpointReader::info(const std::string& path) const {
  const auto found = state_->datasets.find(path);
  if (found == state_->datasets.end()) state_->bad("dataset " + path + " is missing");
  return found->second;
}

Attributes CheckpointReader::attributes(const std::string& group) const {
  const auto found = state_->groups.find(group);
  return found == state_->groups.end() ? Attributes() : found->second;
}

template <class Value>
void CheckpointReader::State::read(const DatasetInfo& info, const char* type, std::span<Value> out) const {
  if (info.type != type) bad(fmt::format("dataset {} is {}, expected {}", info.path, info.type, type));
  DatasetStream::State pieces(name(), handle.get(), info);
  auto to = std::as_writable_bytes(out);
  for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    std::memcpy(to.data(), piece.data(), piece.size());
    to = to.subspan(piece.size());
  }
}

void CheckpointReader::read(const std::string& path, const std::vector<std::int64_t>& shape,
                            std::span<float> out) const {
  const DatasetInfo& found = info(path);
  if (found.shape != shape)
    state_->bad(fmt::format(
        "{} is {} but the configuration wants {}; resume with the configuration of this checkpoint "
        "(spillway inspect --config)",
        path, shape_text(found.shape), shape_text(shape)));
  SPILLWAY_CHECK(found.count() == static_cast<std::int64_t>(out.size()));
  state_->read(found, "float32", out);
}

std::vector<float> CheckpointReader::read_floats(const std::string& path) const {
  const DatasetInfo& found = info(path);
  std::vector<float> values(static_cast<std::size_t>(found.count()));
  state_->read(found, "float32", std::span(values));
  return values;
}

std::vector<double> CheckpointReader::read_doubles(const std::string& path) const {
  const DatasetInfo& found = info(path);
  std::vector<double> values(static_cast<std::size_t>(found.count()));
  state_->read(found, "float64", std::span(values));
  return values;
}

std::vector<std::int64_t> CheckpointReader::read_integers(const std::string& path) const {
  const DatasetInfo& found = info(path);
  std::vector<std::int64_t> values(static_cast<std::size_t>(found.count()));
  state_->read(found, "int64", std::span(values));
  return values;
}

std::string CheckpointReader::read_text(const std::string& path) const {
  const DatasetInfo& found = info(path);
  if (found.type != "string" || found.count() != 1) state_->bad("dataset " + path + " is not a text");
  DatasetStream pieces = stream(path);
  const auto bytes = pieces.next();
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  pieces.next();
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

DatasetStream CheckpointReader::stream(const std::string& path) const {
  return DatasetStream(
      std::make_unique<DatasetStream::State>(state_->name(), state_->handle.get(), info(path)));
}

void CheckpointReader::verify() const {
  for (const auto& [path, found] : state_->datasets) {
    DatasetStream pieces = stream(path);
    while (!pieces.next().empty()) continue;
  }
}

}  // namespace spillway
