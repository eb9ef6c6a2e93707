// How a DatasetStream reads; only src/io includes this.
#pragma once

#include "core/hash.hpp"
#include "io/hdf5.hpp"

namespace spillway {

struct DatasetStream::State {
  State(std::string file_name, hid_t root, DatasetInfo dataset_info);

  std::span<const std::byte> next();
  [[noreturn]] void bad(const std::string& what) const;

  std::string file;
  DatasetInfo info;
  hdf5::Handle dataset, type, space;
  Xxh3 digest;
  std::vector<std::byte> buffer;
  std::int64_t row = 0;        // next index of the first dimension
  std::int64_t row_bytes = 0;  // bytes behind one of them
};

}  // namespace spillway
