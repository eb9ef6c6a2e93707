#include <algorithm>
#include <optional>

#include "core/hash.hpp"
#include "io/checkpoint.hpp"
#include "io/digest.hpp"
#include "io/hdf5.hpp"

namespace spillway {

struct CheckpointReader::State {
  std::filesystem::path file;
  hdf5::Handle handle;
  std::string digest;

  std::string name() const { return file.string(); }
  [[noreturn]] void bad(const std::string& what) const { fail(ExitCode::bad_data, "{}: {}", name(), what); }
};

namespace {

using hdf5::Handle;

std::string type_name(hid_t type) {
  if (H5Tequal(type, H5T_IEEE_F32LE) > 0) return "float32";
  if (H5Tequal(type, H5T_IEEE_F64LE) > 0) return "float64";
  if (H5Tequal(type, H5T_STD_I64LE) > 0) return "int64";
  if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0) return "string";
  return "";
}

std::optional<Attribute> read_attribute(hid_t object, const char* name) {
  if (H5Aexists(object, name) <= 0) return std::nullopt;
  const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  if (!attribute) return std::nullopt;
  const Handle space(H5Aget_space(attribute.get()), H5Sclose);
  const Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (!space || !type || H5Sget_simple_extent_npoints(space.get()) != 1) return std::nullopt;
  const std::string kind = type_name(type.get());
  if (kind == "int64") {
    std::int64_t value = 0;
    if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) return std::nullopt;
    return value;
  }
  if (kind == "float64") {
    double value = 0;
    if (H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0) return std::nullopt;
    return value;
  }
  constexpr std::size_t longest = 1 << 16;
  const std::size_t size = H5Tget_size(type.get());
  if (kind != "string" || size == 0 || size > longest) return std::nullopt;
  std::string text(size, '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) return std::nullopt;
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

std::optional<std::string> read_text_attribute(hid_t object, const char* name) {
  const auto value = read_attribute(object, name);
  if (!value || !std::holds_alternative<std::string>(*value)) return std::nullopt;
  return std::get<std::string>(*value);
}

}  // namespace

std::int64_t DatasetInfo::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", extent);
  return "(" + text + ")";
}

CheckpointReader::CheckpointReader(std::filesystem::path file) : state_(std::make_unique<State>()) {
  hdf5::silence_error_stack();
  state_->file = std::move(file);
  std::error_code error;
  if (!std::filesystem::is_regular_file(state_->file, error))
    state_->bad("no such checkpoint file; check the path");
  if (H5Fis_hdf5(state_->file.c_str()) <= 0)
    state_->bad("not an HDF5 file: truncated at its beginning, or not a checkpoint at all");
  const hid_t handle = H5Fopen(state_->file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (handle < 0) state_->bad("cannot be opened as HDF5 (" + hdf5::last_error() + "): truncated or damaged");
  state_->handle = Handle(handle, H5Fclose);
  const auto root = attributes("/");
  const auto format = root.find("format");
  if (format == root.end() || format->second != Attribute(std::string(kCheckpointFormat)))
    state_->bad("an HDF5 file, but not a Spillway checkpoint (attribute format)");
  const auto version = root.find("version");
  if (version == root.end() || !std::holds_alternative<std::int64_t>(version->second))
    state_->bad("its attribute version is missing or damaged");
  if (std::get<std::int64_t>(version->second) != kCheckpointVersion)
    state_->bad(
        fmt::format("checkpoint format version {}; this program reads version {}: use a newer spillway",
                    std::get<std::int64_t>(version->second), kCheckpointVersion));
  const auto digest = root.find("digest");
  if (digest == root.end() || !std::holds_alternative<std::string>(digest->second))
    state_->bad("it has no digest: it was never finished");
  state_->digest = std::get<std::string>(digest->second);
}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const std::filesystem::path& CheckpointReader::file() const { return state_->file; }
const std::string& CheckpointReader::digest() const { return state_->digest; }

bool CheckpointReader::has(const std::string& path) const {
  // Every link on the way must exist, or HDF5 reports an error instead of "no".
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    if (H5Lexists(state_->handle.get(), path.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
    if (slash == std::string::npos) return true;
  }
}

DatasetInfo CheckpointReader::info(const std::string& path) const {
  if (!has(path)) state_->bad("dataset " + path + " is missing");
  const Handle dataset(H5Dopen2(state_->handle.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) state_->bad("dataset " + path + " cannot be opened: " + hdf5::last_error());
  const Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const Handle type(H5Dget_type(dataset.get()), H5Tclose);
  DatasetInfo info;
  info.path = path;
  constexpr int most_dimensions = 8;
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0 || rank > most_dimensions) state_->bad("dataset " + path + " has damaged dimensions");
  hsize_t extent[most_dimensions] = {};
  if (H5Sget_simple_extent_dims(space.get(), extent, nullptr) < 0)
    state_->bad("dataset " + path + " has damaged dimensions");
  // What a file claims must fit into the file, before anything is allocated for it.
  const std::size_t element = H5Tget_size(type.get());
  const double file_bytes = static_cast<double>(std::filesystem::file_size(state_->file));
  double claimed = static_cast<double>(element);
  for (int i = 0; i < rank; ++i) {
    claimed *= static_cast<double>(extent[i]);
    info.shape.push_back(static_cast<std::int64_t>(extent[i]));
  }
  if (claimed > file_bytes) state_->bad("dataset " + path + " claims more bytes than the file has: damaged");
  info.type = type_name(type.get());
  if (info.type.empty()) state_->bad("dataset " + path + " has a type that checkpoints do not use");
  const auto checksum = read_text_attribute(dataset.get(), "xxh3");
  if (!checksum) state_->bad("dataset " + path + " has no checksum");
  info.checksum = *checksum;
  return info;
}

std::vector<DatasetInfo> CheckpointReader::datasets() const {
  std::vector<std::string> paths;
  const auto visit = [](hid_t, const char* name, const H5O_info_t* object, void* out) -> herr_t {
    if (object->type == H5O_TYPE_DATASET)
      static_cast<std::vector<std::string>*>(out)->push_back("/" + std::string(name));
    return 0;
  };
  if (H5Ovisit(state_->handle.get(), H5_INDEX_NAME, H5_ITER_INC, visit, &paths) < 0)
    state_->bad("its datasets cannot be listed: " + hdf5::last_error());
  std::vector<DatasetInfo> result;
  for (const auto& path : paths) result.push_back(info(path));
  return result;
}

Attributes CheckpointReader::attributes(const std::string& group) const {
  Attributes result;
  if (group != "/" && !has(group)) return result;
  const Handle handle(H5Oopen(state_->handle.get(), group.c_str(), H5P_DEFAULT), H5Oclose);
  if (!handle) state_->bad("group " + group + " cannot be opened: " + hdf5::last_error());
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  hsize_t index = 0;
  if (H5Aiterate2(handle.get(), H5_INDEX_NAME, H5_ITER_INC, &index, visit, &names) < 0)
    state_->bad("attributes of " + group + " cannot be read: " + hdf5::last_error());
  for (const auto& name : names) {
    const auto value = read_attribute(handle.get(), name.c_str());
    if (!value) state_->bad("attribute " + name + " of " + group + " is damaged");
    result[name] = *value;
  }
  return result;
}

namespace {

// Reads all of a dataset and compares its checksum.
template <class Value>
void read_checked(const CheckpointReader& reader, hid_t root, const DatasetInfo& info, const char* type,
                  hid_t native, std::span<Value> out) {
  const std::string name = reader.file().string();
  if (info.type != type)
    fail(ExitCode::bad_data, "{}: dataset {} is {}, expected {}", name, info.path, info.type, type);
  const Handle dataset(H5Dopen2(root, info.path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset ||
      (!out.empty() && H5Dread(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()) < 0))
    fail(ExitCode::bad_data, "{}: dataset {} cannot be read: {}", name, info.path, hdf5::last_error());
  if (xxh3_hex({std::as_bytes(out)}) != info.checksum)
    fail(ExitCode::bad_data,
         "{}: dataset {} does not match its checksum: the file is damaged; use an older checkpoint", name,
         info.path);
}

}  // namespace

void CheckpointReader::read(const std::string& path, const std::vector<std::int64_t>& shape,
                            std::span<float> out) const {
  const DatasetInfo found = info(path);
  if (found.shape != shape)
    state_->bad(fmt::format(
        "{} is {} but the configuration wants {}; resume with the configuration of this checkpoint "
        "(spillway inspect --config)",
        path, shape_text(found.shape), shape_text(shape)));
  SPILLWAY_CHECK(found.count() == static_cast<std::int64_t>(out.size()));
  read_checked(*this, state_->handle.get(), found, "float32", H5T_NATIVE_FLOAT, out);
}

std::vector<float> CheckpointReader::read_floats(const std::string& path) const {
  const DatasetInfo found = info(path);
  std::vector<float> values(static_cast<std::size_t>(found.count()));
  read_checked(*this, state_->handle.get(), found, "float32", H5T_NATIVE_FLOAT, std::span(values));
  return values;
}

std::vector<double> CheckpointReader::read_doubles(const std::string& path) const {
  const DatasetInfo found = info(path);
  std::vector<double> values(static_cast<std::size_t>(found.count()));
  read_checked(*this, state_->handle.get(), found, "float64", H5T_NATIVE_DOUBLE, std::span(values));
  return values;
}

std::vector<std::int64_t> CheckpointReader::read_integers(const std::string& path) const {
  const DatasetInfo found = info(path);
  std::vector<std::int64_t> values(static_cast<std::size_t>(found.count()));
  read_checked(*this, state_->handle.get(), found, "int64", H5T_NATIVE_INT64, std::span(values));
  return values;
}

std::string CheckpointReader::read_text(const std::string& path) const {
  const DatasetInfo found = info(path);
  if (found.type != "string" || found.count() != 1) state_->bad("dataset " + path + " is not a text");
  const Handle dataset(H5Dopen2(state_->handle.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  const Handle type(H5Dget_type(dataset.get()), H5Tclose);
  std::string text(H5Tget_size(type.get()), '\0');
  if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0)
    state_->bad("dataset " + path + " cannot be read: " + hdf5::last_error());
  text.resize(std::min(text.find('\0'), text.size()));
  if (xxh3_hex({bytes_of(text)}) != found.checksum)
    state_->bad("dataset " + path +
                " does not match its checksum: the file is damaged; use an older checkpoint");
  return text;
}

void CheckpointReader::verify() const {
  std::map<std::string, std::string> checksums;
  for (const DatasetInfo& found : datasets()) {
    if (found.type == "float32")
      read_floats(found.path);
    else if (found.type == "float64")
      read_doubles(found.path);
    else if (found.type == "int64")
      read_integers(found.path);
    else
      read_text(found.path);
    checksums[found.path] = found.checksum;
  }
  if (checkpoint_digest(checksums) != state_->digest)
    state_->bad("its digest does not match its datasets: some are missing, added or replaced");
}

}  // namespace spillway
