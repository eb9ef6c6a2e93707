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
  const char* format;
  Handle handle;
  std::string digest;
  std::map<std::string, DatasetInfo> datasets;          // by path
  std::map<std::string, Attributes> groups;             // by path
  std::map<std::string, std::unique_ptr<State>> parts;  // by file name
  std::map<std::string, State*> holders;                // parts of the virtual datasets, by path

  std::string name() const { return file.string(); }
  [[noreturn]] void bad(const std::string& what) const { fail(ExitCode::bad_data, "{}: {}", name(), what); }

  static std::unique_ptr<State> loaded(std::filesystem::path file, const char* format);
  void open();
  void check_format() const;
  void index();
  void check_digests();
  DatasetInfo inspect(const std::string& path, double file_bytes);
  // The part where a virtual dataset lies; null for a dataset of this file.
  State* find_holder(hid_t dataset, const std::string& path);
  State& open_part(const std::string& part_name);
  const State& holder(const std::string& path) const {
    const auto found = holders.find(path);
    return found == holders.end() ? *this : *found->second;
  }
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
  if (format == kCheckpointFormat && root_text("format") == kPartFormat)
    bad("one part of a checkpoint: name the file without .part instead");
  if (root_text("format") != format) bad("an HDF5 file, but not a Spillway checkpoint (attribute format)");
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

DatasetInfo CheckpointReader::State::inspect(const std::string& path, double file_bytes) {
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
  State* const part = find_holder(dataset.get(), path);
  if (part == nullptr && claimed > file_bytes)
    bad("dataset " + path + " claims more bytes than the file has: damaged");
  info.type = hdf5::type_name(type.get());
  if (info.type.empty()) bad("dataset " + path + " has a type that checkpoints do not use");
  const auto checksum = hdf5::read_attribute(dataset.get(), "xxh3");
  if (!checksum || !std::holds_alternative<std::string>(*checksum))
    bad("dataset " + path + " has no checksum");
  info.checksum = std::get<std::string>(*checksum);
  if (part == nullptr) return info;
  const auto there = part->datasets.find(path);
  if (there == part->datasets.end() || there->second.shape != info.shape || there->second.type != info.type ||
      there->second.checksum != info.checksum)
    bad("dataset " + path + " is not the one in " + part->name() + ": a part of another checkpoint");
  holders[path] = part;
  return info;
}

// HDF5 would fill in zeros for what it does not find: so each mapping is followed here, and must be one whole dataset of
// the same path in a file beside this one.
CheckpointReader::State* CheckpointReader::State::find_holder(hid_t dataset, const std::string& path) {
  const Handle properties(H5Dget_create_plist(dataset), H5Pclose);
  if (!properties) bad("dataset " + path + " cannot be opened: " + hdf5::last_error());
  if (H5Pget_external_count(properties.get()) != 0) bad("dataset " + path + " lies outside the file");
  if (H5Pget_layout(properties.get()) != H5D_VIRTUAL) return nullptr;
  const auto text = [&](auto get) {
    constexpr std::size_t longest = 4096;
    std::string value(longest, '\0');
    const auto length = get(properties.get(), std::size_t{0}, value.data(), value.size());
    value.resize(length < 0 ? 0 : std::min(static_cast<std::size_t>(length), longest - 1));
    return value;
  };
  std::size_t mappings = 0;
  if (H5Pget_virtual_count(properties.get(), &mappings) < 0 || mappings != 1)
    bad("dataset " + path + " is not in one part");
  const Handle to(H5Pget_virtual_vspace(properties.get(), 0), H5Sclose);
  const Handle from(H5Pget_virtual_srcspace(properties.get(), 0), H5Sclose);
  const std::string part_name = text(H5Pget_virtual_filename);
  if (!to || !from || text(H5Pget_virtual_dsetname) != path || H5Sget_select_type(to.get()) != H5S_SEL_ALL ||
      H5Sget_select_type(from.get()) != H5S_SEL_ALL || part_name.empty() ||
      part_name.find('/') != std::string::npos)
    bad("dataset " + path + " has a damaged mapping to its part");
  return &open_part(part_name);
}

CheckpointReader::State& CheckpointReader::State::open_part(const std::string& part_name) {
  if (format == kPartFormat) bad("a part that has parts itself: damaged");
  std::unique_ptr<State>& part = parts[part_name];
  if (part) return *part;
  std::error_code error;
  // Parts are beside the file itself, not beside a symbolic link to it.
  const auto beside = std::filesystem::canonical(file, error).parent_path() / part_name;
  if (!std::filesystem::is_regular_file(beside, error))
    bad("its part " + part_name + " is missing beside it: copy or move a checkpoint with all its parts");
  part = loaded(beside, kPartFormat);
  return *part;
}

std::unique_ptr<CheckpointReader::State> CheckpointReader::State::loaded(std::filesystem::path file,
                                                                         const char* format) {
  hdf5::silence_error_stack();
  auto state = std::make_unique<State>();
  state->file = std::move(file);
  state->format = format;
  state->open();
  state->check_format();
  state->index();
  state->check_digests();
  return state;
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

CheckpointReader::CheckpointReader(std::filesystem::path file)
    : state_(State::loaded(std::move(file), kCheckpointFormat)) {}

CheckpointReader::CheckpointReader(std::unique_ptr<State> state) : state_(std::move(state)) {}

CheckpointReader CheckpointReader::of_part(const std::filesystem::path& file) {
  return CheckpointReader(State::loaded(file, kPartFormat));
}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const std::filesystem::path& CheckpointReader::file() const { return state_->file; }
const std::string& CheckpointReader::digest() const { return state_->digest; }

std::vector<std::filesystem::path> CheckpointReader::parts() const {
  std::vector<std::filesystem::path> files;
  for (const auto& [name, part] : state_->parts) files.push_back(part->file);
  return files;
}

std::int64_t CheckpointReader::bytes() const {
  auto sum = static_cast<std::int64_t>(std::filesystem::file_size(state_->file));
  for (const auto& part : parts()) sum += static_cast<std::int64_t>(std::filesystem::file_size(part));
  return sum;
}

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
  const State& at = holder(info.path);
  DatasetStream::State pieces(at.name(), at.handle.get(), info);
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
  const State& at = state_->holder(path);
  return DatasetStream(std::make_unique<DatasetStream::State>(at.name(), at.handle.get(), info(path)));
}

void CheckpointReader::verify() const {
  for (const auto& [path, found] : state_->datasets) {
    DatasetStream pieces = stream(path);
    while (!pieces.next().empty()) continue;
  }
}

}  // namespace spillway
