#include "io/seal.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <span>
#include <string>

#include "core/error.hpp"
#include "core/hash.hpp"

namespace spillway {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;

struct Footer {
  std::array<char, 32> digest;
  std::int64_t extents;
  std::array<char, 8> magic;
};
constexpr std::array kMagic = {'S', 'P', 'L', 'W', 'S', 'E', 'A', 'L'};
static_assert(sizeof(Footer) == 48 && sizeof(Extent) == 16);

// Over bytes [0, body_bytes) outside the extents, and the extents. Empty where the file cannot be read so far.
std::string digest_of(std::ifstream& stream, std::int64_t body_bytes, const std::vector<Extent>& extents) {
  Xxh3 digest;
  std::vector<char> piece(kPieceBytes);
  const auto add = [&](std::int64_t first, std::int64_t end) {
    stream.seekg(first);
    while (first < end && stream) {
      const auto count = std::min<std::int64_t>(end - first, static_cast<std::int64_t>(piece.size()));
      stream.read(piece.data(), count);
      digest.add(std::as_bytes(std::span(piece.data(), static_cast<std::size_t>(count))));
      first += count;
    }
  };
  std::int64_t position = 0;
  for (const Extent& extent : extents) {
    add(position, extent.offset);
    position = extent.offset + extent.bytes;
  }
  add(position, body_bytes);
  digest.add(std::as_bytes(std::span(extents)));
  return stream ? digest.hex() : "";
}

bool in_order(const std::vector<Extent>& extents, std::int64_t body_bytes) {
  std::int64_t position = 0;
  for (const Extent& extent : extents) {
    if (extent.offset < position || extent.bytes < 0 || extent.bytes > body_bytes - extent.offset)
      return false;
    position = extent.offset + extent.bytes;
  }
  return position <= body_bytes;
}

}  // namespace

void append_seal(const std::filesystem::path& file, std::vector<Extent> extents) {
  const auto body_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  SPILLWAY_CHECK(in_order(extents, body_bytes));
  Footer footer = {{}, static_cast<std::int64_t>(extents.size()), kMagic};
  std::ifstream stream(file, std::ios::binary);
  const std::string digest = digest_of(stream, body_bytes, extents);
  if (digest.empty()) fail(ExitCode::io, "{}: cannot be read back", file.string());
  std::copy(digest.begin(), digest.end(), footer.digest.begin());
  std::ofstream end(file, std::ios::binary | std::ios::app);
  end.write(reinterpret_cast<const char*>(extents.data()),
            static_cast<std::streamsize>(extents.size() * sizeof(Extent)));
  end.write(reinterpret_cast<const char*>(&footer), sizeof footer);
  end.close();
  if (!end) fail(ExitCode::io, "{}: cannot be written: {}", file.string(), std::strerror(errno));
}

void check_seal(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  Footer footer = {};
  if (file_bytes >= static_cast<std::int64_t>(sizeof footer)) {
    stream.seekg(file_bytes - static_cast<std::int64_t>(sizeof footer));
    stream.read(reinterpret_cast<char*>(&footer), sizeof footer);
  }
  const std::int64_t before = file_bytes - static_cast<std::int64_t>(sizeof footer);
  if (!stream || footer.magic != kMagic || footer.extents < 0 ||
      footer.extents > before / static_cast<std::int64_t>(sizeof(Extent)))
    fail(ExitCode::bad_data,
         "{}: has no seal at its end: truncated, changed by another program, or not a Spillway checkpoint",
         file.string());
  std::vector<Extent> extents(static_cast<std::size_t>(footer.extents));
  const std::int64_t body_bytes = before - footer.extents * static_cast<std::int64_t>(sizeof(Extent));
  stream.seekg(body_bytes);
  stream.read(reinterpret_cast<char*>(extents.data()),
              static_cast<std::streamsize>(extents.size() * sizeof(Extent)));
  if (!stream || !in_order(extents, body_bytes) ||
      digest_of(stream, body_bytes, extents) != std::string(footer.digest.begin(), footer.digest.end()))
    fail(ExitCode::bad_data, "{}: does not match its seal: the file is damaged; use an older checkpoint",
         file.string());
}

}  // namespace spillway
