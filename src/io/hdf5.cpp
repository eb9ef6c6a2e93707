#include "io/hdf5.hpp"

#include <algorithm>

namespace spillway::hdf5 {

std::string last_error() {
  std::string message = "unknown HDF5 error";
  // Upward: from the innermost failure, which knows the reason, to the API call.
  const auto visit = [](unsigned depth, const H5E_error2_t* entry, void* out) -> herr_t {
    if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &message);
  // Some of them span lines: "file write failed: time = …\n, filename = …".
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message;
}

std::string type_name(hid_t type) {
  if (H5Tequal(type, H5T_IEEE_F32LE) > 0) return "float32";
  if (H5Tequal(type, H5T_IEEE_F64LE) > 0) return "float64";
  if (H5Tequal(type, H5T_STD_I64LE) > 0) return "int64";
  if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0) return "string";
  return "";
}

Handle file_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (!access || H5Pset_file_locking(access.get(), 0, 1) < 0)
    fail(ExitCode::internal, "HDF5: no file access properties: {}", last_error());
  return access;
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

std::optional<Attributes> read_attributes(hid_t object) {
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  hsize_t index = 0;
  if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &index, visit, &names) < 0) return std::nullopt;
  Attributes result;
  for (const auto& name : names) {
    const auto value = read_attribute(object, name.c_str());
    if (!value) return std::nullopt;
    result[name] = *value;
  }
  return result;
}

std::optional<Contents> list_contents(hid_t file) {
  Contents contents;
  const auto visit = [](hid_t, const char* name, const H5O_info_t* object, void* out) -> herr_t {
    auto& found = *static_cast<Contents*>(out);
    const std::string path = std::string(name) == "." ? "/" : "/" + std::string(name);
    if (object->type == H5O_TYPE_GROUP) found.groups.push_back(path);
    if (object->type == H5O_TYPE_DATASET) found.datasets.push_back(path);
    return 0;
  };
  if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, visit, &contents, H5O_INFO_BASIC) < 0) return std::nullopt;
  return contents;
}

}  // namespace spillway::hdf5
