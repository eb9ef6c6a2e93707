#include "io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "io/checkpoint.hpp"

namespace spillway {
namespace {

using nlohmann::json;

// A model of a thousand layers has a header of a MiB.
constexpr std::int64_t kLongestHeader = std::int64_t{16} << 20;
constexpr std::size_t kMostDimensions = 8;

// Bytes of an element; 0 for types that the format does not have.
std::int64_t element_bytes(const std::string& type) {
  static const std::map<std::string, std::int64_t> sizes = {
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},     {"U32", 4},     {"F16", 2}, {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}};
  const auto found = sizes.find(type);
  return found == sizes.end() ? 0 : found->second;
}

// A name from the file for a message: one line, not too long.
std::string in_quotes(const std::string& text) {
  return json(text.substr(0, 80)).dump(-1, ' ', true, json::error_handler_t::replace);
}

// JSON text to a value; the file's own duplicates of a name would otherwise hide each other.
json parse_header(const std::string& text) {
  std::vector<std::set<std::string>> open;
  const auto check = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(value.get<std::string>()).second)
      throw std::invalid_argument("the name " + in_quotes(value.get<std::string>()) + " is there twice");
    return true;
  };
  return json::parse(text, check);
}

std::vector<std::int64_t> integers(const json& values) {
  std::vector<std::int64_t> result;
  for (const json& value : values) {
    if (!value.is_number_integer()) throw std::invalid_argument("a size is not a whole number");
    result.push_back(value.get<std::int64_t>());
  }
  return result;
}

}  // namespace

void write_safetensors(const std::filesystem::path& file, const std::map<std::string, std::string>& metadata,
                       std::span<const SafetensorsEntry> tensors) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  std::vector<std::span<const std::byte>> parts;
  for (const SafetensorsEntry& tensor : tensors) {
    const auto bytes = static_cast<std::int64_t>(tensor.values.size_bytes());
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8,
              ' ');  // the tensors begin at a multiple of 8, as the format's own writer does
  const auto size = static_cast<std::uint64_t>(text.size());
  parts.push_back(std::as_bytes(std::span(&size, 1)));
  parts.push_back(std::as_bytes(std::span(text)));
  for (const SafetensorsEntry& tensor : tensors) parts.push_back(std::as_bytes(tensor.values));
  write_file_atomically(file, parts);
}

SafetensorsFile::SafetensorsFile(std::filesystem::path file) : file_(std::move(file)) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file_, error)) bad("no such file; check the path");
  file_bytes_ = static_cast<std::int64_t>(std::filesystem::file_size(file_, error));
  index(read_header());
  require_no_gaps();
}

void SafetensorsFile::bad(const std::string& what) const {
  fail(ExitCode::bad_data, "{}: {}", file_.string(), what);
}

std::string SafetensorsFile::read_header() {
  std::ifstream stream(file_, std::ios::binary);
  if (!stream) fail(ExitCode::io, "{}: cannot be read; check its permissions", file_.string());
  std::uint64_t bytes = 0;
  stream.read(reinterpret_cast<char*>(&bytes), sizeof bytes);
  if (!stream) bad("shorter than a safetensors header: truncated, or not such a file");
  if (bytes > static_cast<std::uint64_t>(std::min(kLongestHeader, file_bytes_ - 8)))
    bad(
        fmt::format("claims a header of {} bytes, but the file has {} and headers may have {}: truncated, or "
                    "not a safetensors file",
                    bytes, file_bytes_, kLongestHeader));
  std::string header(static_cast<std::size_t>(bytes), '\0');
  stream.read(header.data(), static_cast<std::streamsize>(bytes));
  if (!stream) bad("its header cannot be read");
  data_begin_ = 8 + static_cast<std::int64_t>(bytes);
  return header;
}

void SafetensorsFile::index(const std::string& header) {
  try {
    const json document = parse_header(header);
    if (!document.is_object()) bad("its header is not a JSON object");
    for (const auto& [name, value] : document.items()) {
      if (name == "__metadata__") continue;
      Tensor tensor;
      tensor.type = value.at("dtype").get<std::string>();
      tensor.shape = integers(value.at("shape"));
      const auto offsets = integers(value.at("data_offsets"));
      double claimed = static_cast<double>(element_bytes(tensor.type));
      if (claimed == 0)
        bad(fmt::format("tensor {} has the unknown type {}", in_quotes(name), in_quotes(tensor.type)));
      bool sizes_known = tensor.shape.size() <= kMostDimensions && offsets.size() == 2;
      for (const std::int64_t extent : tensor.shape) {
        sizes_known = sizes_known && extent >= 0;
        claimed *= static_cast<double>(extent);
      }
      const std::int64_t data_bytes = file_bytes_ - data_begin_;
      if (!sizes_known || offsets[0] < 0 || offsets[1] < offsets[0] || offsets[1] > data_bytes ||
          claimed != static_cast<double>(offsets[1] - offsets[0]))
        bad(fmt::format("tensor {} does not fit the file: truncated, or its shape or offsets are damaged",
                        in_quotes(name)));
      tensor.begin = data_begin_ + offsets[0];
      tensor.end = data_begin_ + offsets[1];
      tensors_[name] = std::move(tensor);
    }
  } catch (const json::exception& error) {
    bad(std::string("its header is damaged: ") + error.what());
  } catch (const std::invalid_argument& error) {
    bad(std::string("its header is damaged: ") + error.what());
  }
}

void SafetensorsFile::require_no_gaps() const {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  for (const auto& [name, tensor] : tensors_) ranges.emplace_back(tensor.begin, tensor.end);
  std::sort(ranges.begin(), ranges.end());
  std::int64_t position = data_begin_;
  for (const auto& [begin, end] : ranges) {
    if (begin != position) bad("its tensors overlap or leave gaps: damaged");
    position = end;
  }
  if (position != file_bytes_) bad("has bytes that belong to no tensor: damaged");
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : tensors_) result.push_back(name);
  return result;
}

const SafetensorsFile::Tensor& SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) bad("tensor " + name + " is missing");
  return found->second;
}

void SafetensorsFile::read(const std::string& name, const std::vector<std::int64_t>& shape,
                           std::span<float> out) const {
  const Tensor& tensor = find(name);
  if (tensor.shape != shape)
    bad(fmt::format("tensor {} is {} but the model's sizes want {}", name, shape_text(tensor.shape),
                    shape_text(shape)));
  const bool half = tensor.type == "BF16";
  if (!half && tensor.type != "F32")
    bad(fmt::format("tensor {} is {}; only F32 and BF16 can be imported", name, tensor.type));
  std::ifstream stream(file_, std::ios::binary);
  stream.seekg(tensor.begin);
  if (half) {
    std::vector<std::uint16_t> raw(out.size());
    stream.read(reinterpret_cast<char*>(raw.data()), tensor.end - tensor.begin);
    std::transform(raw.begin(), raw.end(), out.begin(), [](std::uint16_t bits) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    });
  } else {
    stream.read(reinterpret_cast<char*>(out.data()), tensor.end - tensor.begin);
  }
  if (!stream) bad("tensor " + name + " cannot be read");
}

}  // namespace spillway
