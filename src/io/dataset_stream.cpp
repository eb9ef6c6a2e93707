#include "io/dataset_stream.hpp"

#include <algorithm>
#include <bit>

namespace spillway {

// Datasets are little-endian and are handed out as they are stored.
static_assert(std::endian::native == std::endian::little);

namespace {

constexpr std::int64_t kPieceBytes = 4 << 20;

}  // namespace

DatasetStream::State::State(std::string file_name, hid_t root, DatasetInfo dataset_info)
    : file(std::move(file_name)), info(std::move(dataset_info)) {
  dataset = hdf5::Handle(H5Dopen2(root, info.path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) bad("cannot be opened: " + hdf5::last_error());
  type = hdf5::Handle(H5Dget_type(dataset.get()), H5Tclose);
  space = hdf5::Handle(H5Dget_space(dataset.get()), H5Sclose);
  if (!type || !space) bad("cannot be opened: " + hdf5::last_error());
  const std::int64_t rows = info.shape.empty() ? 1 : info.shape[0];
  const auto element = static_cast<std::int64_t>(H5Tget_size(type.get()));
  row_bytes = rows == 0 ? 0 : info.count() / rows * element;
}

void DatasetStream::State::bad(const std::string& what) const {
  fail(ExitCode::bad_data, "{}: dataset {} {}", file, info.path, what);
}

std::span<const std::byte> DatasetStream::State::next() {
  const std::int64_t rows = info.shape.empty() ? 1 : info.shape[0];
  if (row_bytes == 0 || row == rows) {
    if (digest.hex() != info.checksum)
      bad("does not match its checksum: the file is damaged; use an older checkpoint");
    return {};
  }
  const std::int64_t count = std::min(std::max<std::int64_t>(kPieceBytes / row_bytes, 1), rows - row);
  buffer.resize(static_cast<std::size_t>(count * row_bytes));
  hdf5::Handle memory;
  hid_t memory_space = H5S_ALL, file_space = H5S_ALL;
  if (!info.shape.empty()) {
    std::vector<hsize_t> start(info.shape.size(), 0), extent(info.shape.begin(), info.shape.end());
    start[0] = static_cast<hsize_t>(row);
    extent[0] = static_cast<hsize_t>(count);
    memory =
        hdf5::Handle(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose);
    if (!memory ||
        H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr) < 0)
      bad("cannot be read: " + hdf5::last_error());
    memory_space = memory.get();
    file_space = space.get();
  }
  if (H5Dread(dataset.get(), type.get(), memory_space, file_space, H5P_DEFAULT, buffer.data()) < 0)
    bad("cannot be read: " + hdf5::last_error());
  row += count;
  digest.add(buffer);
  return buffer;
}

DatasetStream::DatasetStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
DatasetStream::DatasetStream(DatasetStream&&) noexcept = default;
DatasetStream::~DatasetStream() = default;
std::span<const std::byte> DatasetStream::next() { return state_->next(); }

}  // namespace spillway
