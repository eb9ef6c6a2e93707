#include "data/shard.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/atomic_file.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and mapped as they are");

constexpr std::int32_t kMagic = 20240520;
constexpr std::int32_t kVersion = 1;
using Header = std::array<std::int32_t, 256>;

bool is_shard_of(const std::string& name, const std::string& split) {
  if (!name.ends_with(".bin")) return false;
  const std::string stem = name.substr(0, name.size() - 4);
  return stem.starts_with(split + "_") || stem.ends_with("_" + split) ||
         stem.find("_" + split + "_") != std::string::npos;
}

}  // namespace

Shard::Shard(const std::filesystem::path& file) {
  const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(ExitCode::bad_data, "{}: cannot be read: {}", file.string(), std::strerror(errno));
  struct stat status = {};
  const bool known = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  bytes_ = known ? static_cast<std::size_t>(status.st_size) : 0;
  if (bytes_ >= sizeof(Header)) memory_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (bytes_ < sizeof(Header))
    fail(ExitCode::bad_data, "{}: {} bytes are too few for a token shard; is it truncated?", file.string(),
         bytes_);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    fail(ExitCode::io, "{}: cannot be mapped: {}", file.string(), std::strerror(errno));
  }
  const auto* header = static_cast<const std::int32_t*>(memory_);
  const auto refuse = [&](const std::string& why) {
    munmap(memory_, bytes_);
    fail(ExitCode::bad_data, "{}: {}", file.string(), why);
  };
  if (header[0] != kMagic)
    refuse(fmt::format("not a token shard: magic {} instead of {}; make one with spillway tokenize",
                       header[0], kMagic));
  if (header[1] != kVersion)
    refuse(fmt::format("shard version {}; this program reads version {}", header[1], kVersion));
  const std::size_t payload_bytes = bytes_ - sizeof(Header);
  if (header[2] < 0 || static_cast<std::size_t>(header[2]) * sizeof(std::uint16_t) != payload_bytes)
    refuse(fmt::format("its header promises {} tokens, the file holds {}: truncated or damaged", header[2],
                       static_cast<double>(payload_bytes) / sizeof(std::uint16_t)));
  tokens_ = {reinterpret_cast<const std::uint16_t*>(header + std::tuple_size_v<Header>),
             payload_bytes / sizeof(std::uint16_t)};
}

Shard::Shard(Shard&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_), tokens_(other.tokens_) {}

Shard::~Shard() {
  if (memory_ != nullptr) munmap(memory_, bytes_);
}

void write_shard(const std::filesystem::path& file, std::span<const std::uint16_t> tokens) {
  SPILLWAY_CHECK(tokens.size() <= 0x7fffffffu);
  Header header = {};
  header[0] = kMagic;
  header[1] = kVersion;
  header[2] = static_cast<std::int32_t>(tokens.size());
  write_file_atomically(file, {std::as_bytes(std::span(header)), std::as_bytes(tokens)});
}

int write_shards(const std::filesystem::path& folder, const std::string& split,
                 std::span<const std::uint16_t> tokens, std::size_t shard_tokens) {
  int shards = 0;
  do {
    const auto part = tokens.first(std::min(shard_tokens, tokens.size()));
    write_shard(folder / fmt::format("{}_{:06}.bin", split, shards++), part);
    tokens = tokens.subspan(part.size());
  } while (!tokens.empty());
  return shards;
}

TokenStream::TokenStream(const std::filesystem::path& folder, const std::string& split) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (is_shard_of(entry.path().filename().string(), split)) files.push_back(entry.path());
  if (error)
    fail(ExitCode::bad_data, "data.dir {}: {}; make it with spillway tokenize", folder.string(),
         error.message());
  if (files.empty())
    fail(ExitCode::bad_data, "data.dir {}: no shards {}_*.bin; make them with spillway tokenize",
         folder.string(), split);
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    shards_.emplace_back(file);
    ends_.push_back(size() + static_cast<std::int64_t>(shards_.back().tokens().size()));
  }
}

void TokenStream::read(std::int64_t first, std::span<std::int32_t> out) const {
  SPILLWAY_CHECK(first >= 0 && first + static_cast<std::int64_t>(out.size()) <= size());
  auto shard = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), first) - ends_.begin());
  for (std::size_t done = 0; done < out.size(); ++shard) {
    const auto tokens = shards_[shard].tokens();
    const std::int64_t start = ends_[shard] - static_cast<std::int64_t>(tokens.size());
    const auto offset = static_cast<std::size_t>(first + static_cast<std::int64_t>(done) - start);
    const std::size_t count = std::min(out.size() - done, tokens.size() - offset);
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(offset), count,
                out.begin() + static_cast<std::ptrdiff_t>(done));
    done += count;
  }
}

int TokenStream::largest() const {
  int result = 0;
  for (const Shard& shard : shards_)
    for (const std::uint16_t token : shard.tokens()) result = std::max<int>(result, token);
  return result;
}

namespace {

// Throws nlohmann::json::exception for a document of another shape.
DataInfo parse_data_info(const nlohmann::json& document) {
  DataInfo info;
  info.vocab = document.at("vocab").get<int>();
  info.tokenizer = document.at("tokenizer").get<std::string>();
  info.tokenizer_digest = document.at("tokenizer_digest").get<std::string>();
  info.documents = document.at("documents").get<std::int64_t>();
  info.text_bytes = document.at("text_bytes").get<std::int64_t>();
  info.train_tokens = document.at("train_tokens").get<std::int64_t>();
  info.val_tokens = document.at("val_tokens").get<std::int64_t>();
  info.token_bytes = document.at("token_bytes").get<std::vector<std::int32_t>>();
  return info;
}

}  // namespace

std::optional<DataInfo> read_data_info(const std::filesystem::path& folder) {
  const auto file = folder / "data.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  try {
    std::ifstream stream(file);
    DataInfo info = parse_data_info(nlohmann::json::parse(stream));
    if (info.vocab <= 0 || info.token_bytes.size() != static_cast<std::size_t>(info.vocab))
      fail(ExitCode::bad_data,
           "{}: token_bytes has {} entries for a vocabulary of {}; run spillway tokenize again",
           file.string(), info.token_bytes.size(), info.vocab);
    if (std::any_of(info.token_bytes.begin(), info.token_bytes.end(), [](auto bytes) { return bytes < 0; }))
      fail(ExitCode::bad_data, "{}: token_bytes has a negative entry; run spillway tokenize again",
           file.string());
    return info;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "{}: {}; run spillway tokenize again", file.string(), error.what());
  }
}

void write_data_info(const std::filesystem::path& folder, const DataInfo& info) {
  const nlohmann::json document = {{"vocab", info.vocab},
                                   {"tokenizer", info.tokenizer},
                                   {"tokenizer_digest", info.tokenizer_digest},
                                   {"documents", info.documents},
                                   {"text_bytes", info.text_bytes},
                                   {"train_tokens", info.train_tokens},
                                   {"val_tokens", info.val_tokens},
                                   {"token_bytes", info.token_bytes}};
  const std::string text = document.dump(1) + "\n";
  write_file_atomically(folder / "data.json", {std::as_bytes(std::span(text))});
}

}  // namespace spillway
