// HDF5 handles that close themselves, and errors that are one line. Only src/io includes this.
#pragma once

#include <hdf5.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "io/checkpoint.hpp"

namespace spillway::hdf5 {

// Owns one identifier.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

// Before anything else of HDF5. It prints its error stack to stderr by default; we report one line instead. And at the
// end of the process it closes again what could not be closed, and crashes (1.10.8) where that is a file whose disk was
// full: handles close themselves, so it is told not to.
inline void silence_error_stack() {
  [[maybe_unused]] static const herr_t once = H5dont_atexit();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

// The innermost message of HDF5's error stack, and the system's where a file operation failed.
std::string last_error();

// "float32", "float64", "int64", "string" (of fixed length), or empty for types that checkpoints do not use.
std::string type_name(hid_t type);

// File access properties: HDF5's own file locks are off, since some file systems have none and CheckpointFolder locks.
Handle file_access();

// A single value; nothing where there is no such attribute, or one of another type or shape, or longer than 64 KiB.
std::optional<Attribute> read_attribute(hid_t object, const char* name);
// All of an object's attributes; nothing where they cannot be read.
std::optional<Attributes> read_attributes(hid_t object);

// Paths of all groups and datasets, each once, "/" first. Nothing where they cannot be listed.
struct Contents {
  std::vector<std::string> groups, datasets;
};
std::optional<Contents> list_contents(hid_t file);

}  // namespace spillway::hdf5

// The identifier or status an HDF5 call returned; throws Error(io) naming file and call where it is negative.
// Handles made within `call` would lose the reason: closing them clears HDF5's error stack.
#define H5_CHECK(file, call)                                                         \
  [&] {                                                                              \
    const auto h5_result = (call);                                                   \
    if (h5_result < 0)                                                               \
      ::spillway::fail(::spillway::ExitCode::io, "{}: {} failed: {}", (file), #call, \
                       ::spillway::hdf5::last_error());                              \
    return h5_result;                                                                \
  }()
