#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/clock.hpp"
#include "core/hash.hpp"
#include "core/layout.hpp"
#include "io/checkpoint.hpp"
#include "io/checkpoint_folder.hpp"
#include "io/digest.hpp"
#include "io/hdf5.hpp"
#include "io/seal.hpp"

namespace spillway {

namespace {

using hdf5::Handle;

void fsync_path(const std::filesystem::path& path, int flags) {
  const int descriptor = open(path.c_str(), flags | O_CLOEXEC);
  const bool failed = descriptor < 0 || fsync(descriptor) != 0;
  const int error = errno;
  if (descriptor >= 0) close(descriptor);
  if (failed) fail(ExitCode::io, "{}: fsync: {}", path.string(), std::strerror(error));
}

// Fixed length, with the terminating zero.
Handle text_type(const std::string& file, const std::string& text) {
  Handle type(H5_CHECK(file, H5Tcopy(H5T_C_S1)), H5Tclose);
  H5_CHECK(file, H5Tset_size(type.get(), text.size() + 1));
  H5_CHECK(file, H5Tset_cset(type.get(), H5T_CSET_UTF8));
  return type;
}

void write_attribute(const std::string& file, hid_t object, const std::string& name, const Attribute& value) {
  const Handle space(H5_CHECK(file, H5Screate(H5S_SCALAR)), H5Sclose);
  const auto write = [&](hid_t stored, hid_t native, const void* data) {
    const Handle attribute(
        H5_CHECK(file, H5Acreate2(object, name.c_str(), stored, space.get(), H5P_DEFAULT, H5P_DEFAULT)),
        H5Aclose);
    H5_CHECK(file, H5Awrite(attribute.get(), native, data));
  };
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    write(H5T_STD_I64LE, H5T_NATIVE_INT64, integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    write(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, real);
  } else {
    const auto& text = std::get<std::string>(value);
    const Handle type = text_type(file, text);
    write(type.get(), type.get(), text.c_str());
  }
}

// No times of creation: equal state gives equal bytes.
Handle untimed(const std::string& file, hid_t kind) {
  Handle properties(H5_CHECK(file, H5Pcreate(kind)), H5Pclose);
  H5_CHECK(file, H5Pset_obj_track_times(properties.get(), 0));
  return properties;
}

// The stored type of a name as in DatasetInfo.
hid_t stored_type(const std::string& name) {
  SPILLWAY_CHECK(name == "float32" || name == "float64" || name == "int64");
  return name == "float32" ? H5T_IEEE_F32LE : name == "float64" ? H5T_IEEE_F64LE : H5T_STD_I64LE;
}

// Opens a group, making it and its parents where they are missing.
Handle open_group(const std::string& file, hid_t root, const std::string& path) {
  if (path == "/" || H5Lexists(root, path.c_str(), H5P_DEFAULT) > 0)
    return {H5_CHECK(file, H5Gopen2(root, path.c_str(), H5P_DEFAULT)), H5Gclose};
  open_group(file, root, path.substr(0, std::max<std::size_t>(path.rfind('/'), 1)));
  const Handle properties = untimed(file, H5P_GROUP_CREATE);
  return {H5_CHECK(file, H5Gcreate2(root, path.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT)),
          H5Gclose};
}

// What the seal and the digest need to know of a dataset.
struct Written {
  std::string checksum;
  Extent extent;  // in the file; no bytes where the dataset is empty
};

Written write_dataset(const std::string& file, hid_t root, const std::string& path,
                      const std::vector<std::int64_t>& shape, hid_t stored, hid_t native, const void* data,
                      std::span<const std::byte> bytes) {
  open_group(file, root, path.substr(0, std::max<std::size_t>(path.rfind('/'), 1)));
  const std::vector<hsize_t> extent(shape.begin(), shape.end());
  const Handle space(
      H5_CHECK(file, H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr)), H5Sclose);
  const Handle properties = untimed(file, H5P_DATASET_CREATE);
  const Handle dataset(H5_CHECK(file, H5Dcreate2(root, path.c_str(), stored, space.get(), H5P_DEFAULT,
                                                 properties.get(), H5P_DEFAULT)),
                       H5Dclose);
  if (!bytes.empty()) H5_CHECK(file, H5Dwrite(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
  const std::string checksum = xxh3_hex({bytes});
  write_attribute(file, dataset.get(), "xxh3", checksum);
  if (bytes.empty()) return {checksum, {}};
  const haddr_t offset = H5Dget_offset(dataset.get());
  SPILLWAY_CHECK(offset != HADDR_UNDEF);
  return {checksum, {static_cast<std::int64_t>(offset), static_cast<std::int64_t>(bytes.size())}};
}

// A dataset that lies in another file, under the same path.
void link_dataset(const std::string& file, hid_t root, const DatasetInfo& info, const std::string& part) {
  open_group(file, root, info.path.substr(0, std::max<std::size_t>(info.path.rfind('/'), 1)));
  const std::vector<hsize_t> extent(info.shape.begin(), info.shape.end());
  const Handle space(
      H5_CHECK(file, H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr)), H5Sclose);
  const Handle properties = untimed(file, H5P_DATASET_CREATE);
  H5_CHECK(file, H5Pset_virtual(properties.get(), space.get(), part.c_str(), info.path.c_str(), space.get()));
  const Handle dataset(H5_CHECK(file, H5Dcreate2(root, info.path.c_str(), stored_type(info.type), space.get(),
                                                 H5P_DEFAULT, properties.get(), H5P_DEFAULT)),
                       H5Dclose);
  write_attribute(file, dataset.get(), "xxh3", info.checksum);
}

}  // namespace

std::filesystem::path part_file(const std::filesystem::path& master, int part) {
  return std::filesystem::path(master).replace_extension(fmt::format(".part{}.h5", part));
}

struct CheckpointWriter::State {
  double start_s = monotonic_s();
  std::filesystem::path file, temporary;
  hdf5::Handle handle;
  std::map<std::string, std::string> checksums;  // of datasets, by path
  std::map<std::string, Attributes> groups;      // by path
  std::vector<Extent> extents;                   // of the datasets' bytes
  bool committed = false;

  void remember(const std::string& path, const Written& written) {
    checksums[path] = written.checksum;
    if (written.extent.bytes > 0) extents.push_back(written.extent);
  }

  template <class Value>
  void write(const std::string& path, const std::vector<std::int64_t>& shape, std::span<const Value> values,
             hid_t stored, hid_t native) {
    SPILLWAY_CHECK(path.starts_with('/') && element_count(shape) == std::ssize(values));
    remember(path, write_dataset(file.string(), handle.get(), path, shape, stored, native, values.data(),
                                 std::as_bytes(values)));
  }
};

CheckpointWriter::CheckpointWriter(std::filesystem::path file, std::int64_t needed_bytes, FileKind kind)
    : state_(std::make_unique<State>()) {
  hdf5::silence_error_stack();
  state_->file = std::move(file);
  if (needed_bytes > 0) require_free_space(state_->file, needed_bytes);
  state_->temporary = state_->file.string() + ".tmp";
  const std::string name = state_->file.string();
  const Handle access = hdf5::file_access();
  // Virtual datasets came with HDF5 1.10.
  const H5F_libver_t version = kind == FileKind::master ? H5F_LIBVER_V110 : H5F_LIBVER_V18;
  H5_CHECK(name, H5Pset_libver_bounds(access.get(), version, version));
  const Handle creation = untimed(name, H5P_FILE_CREATE);
  const hid_t handle = H5Fcreate(state_->temporary.c_str(), H5F_ACC_TRUNC, creation.get(), access.get());
  if (handle < 0) fail(ExitCode::io, "{}: cannot be created: {}", name, hdf5::last_error());
  state_->handle = Handle(handle, H5Fclose);
  constexpr std::int64_t version_in_one_file = 2;  // what readers of that version can read
  attributes("/", {{"format", std::string(kind == FileKind::part ? kPartFormat : kCheckpointFormat)},
                   {"version", kind == FileKind::whole ? version_in_one_file : kCheckpointVersion}});
}

CheckpointWriter::~CheckpointWriter() {
  if (!state_ || state_->committed) return;
  state_->handle = Handle();
  std::error_code ignored;
  std::filesystem::remove(state_->temporary, ignored);
}

void CheckpointWriter::write(const std::string& path, const std::vector<std::int64_t>& shape,
                             std::span<const float> values) {
  state_->write(path, shape, values, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT);
}

void CheckpointWriter::write(const std::string& path, const std::vector<std::int64_t>& shape,
                             std::span<const double> values) {
  state_->write(path, shape, values, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE);
}

void CheckpointWriter::write(const std::string& path, const std::vector<std::int64_t>& shape,
                             std::span<const std::int64_t> values) {
  state_->write(path, shape, values, H5T_STD_I64LE, H5T_NATIVE_INT64);
}

void CheckpointWriter::write(const std::string& path, const std::string& text) {
  const std::string name = state_->file.string();
  const Handle type = text_type(name, text);
  // With the terminating zero, as it is stored.
  state_->remember(path,
                   write_dataset(name, state_->handle.get(), path, {1}, type.get(), type.get(), text.c_str(),
                                 std::as_bytes(std::span(text.c_str(), text.size() + 1))));
}

void CheckpointWriter::attributes(const std::string& group, const Attributes& values) {
  const std::string name = state_->file.string();
  const Handle handle = open_group(name, state_->handle.get(), group);
  for (const auto& [key, value] : values) {
    write_attribute(name, handle.get(), key, value);
    state_->groups[group][key] = value;
  }
}

void CheckpointWriter::link(const CheckpointReader& part) {
  for (const DatasetInfo& info : part.datasets()) {
    SPILLWAY_CHECK(info.count() > 0);
    link_dataset(state_->file.string(), state_->handle.get(), info, part.file().filename().string());
    state_->checksums[info.path] = info.checksum;
  }
}

Committed CheckpointWriter::commit() {
  const std::string name = state_->file.string();
  Committed result;
  result.digest = datasets_digest(state_->checksums);
  attributes("/", {{"digest", result.digest}, {"attributes_digest", attributes_digest(state_->groups)}});
  // A full disk may show only here, when HDF5 writes what it has held back.
  H5_CHECK(name, H5Fflush(state_->handle.get(), H5F_SCOPE_GLOBAL));
  state_->handle = Handle();
  append_seal(state_->temporary, state_->extents);
  const double written_s = monotonic_s();
  fsync_path(state_->temporary, O_RDWR);
  const double synced_s = monotonic_s();
  if (std::rename(state_->temporary.c_str(), state_->file.c_str()) != 0)
    fail(ExitCode::io, "{}: cannot be renamed into place: {}", name, std::strerror(errno));
  state_->committed = true;
  const auto folder = state_->file.parent_path();
  fsync_path(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
  result.write_s = written_s - state_->start_s;
  result.sync_s = synced_s - written_s;
  result.rename_s = monotonic_s() - synced_s;
  return result;
}

}  // namespace spillway
