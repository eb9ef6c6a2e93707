#include "io/hdf5.hpp"

namespace spillway::hdf5 {

std::string last_error() {
  std::string message = "unknown HDF5 error";
  // Upward: from the innermost failure, which knows the reason, to the API call.
  const auto visit = [](unsigned depth, const H5E_error2_t* entry, void* out) -> herr_t {
    if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &message);
  return message;
}

}  // namespace spillway::hdf5
