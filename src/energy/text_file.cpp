#include "energy/text_file.hpp"

#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// Appends what `read(buffer, size)` gives, until it gives 0. It throws where reading fails.
template <class Read>
std::string read_all(const std::string& name, std::size_t limit_bytes, Read read) {
  std::string text;
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + kPieceBytes);
    const std::size_t got = read(text.data() + before, kPieceBytes);
    text.resize(before + got);
    if (got == 0) return text;
    if (text.size() > limit_bytes)
      fail(ExitCode::bad_data, "{}: more than {} MiB of text; cut it into smaller files", name,
           limit_bytes >> 20);
  }
}

// zlib reads plain files as they are.
std::string read_gzip_or_plain(const std::filesystem::path& file, std::size_t limit_bytes) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> stream(gzopen(file.c_str(), "rb"), gzclose);
  if (!stream) fail(ExitCode::bad_data, "{}: cannot be opened; check --signal.file", file.string());
  return read_all(file.string(), limit_bytes, [&](char* buffer, std::size_t size) {
    const int got = gzread(stream.get(), buffer, static_cast<unsigned>(size));
    int state = Z_OK;
    gzerror(stream.get(), &state);
    if (got < 0 || (state != Z_OK && state != Z_STREAM_END))
      fail(ExitCode::bad_data, "{}: damaged or truncated gzip file; download it again", file.string());
    return static_cast<std::size_t>(got);
  });
}

TextFile read_zip(const std::filesystem::path& file, std::size_t limit_bytes) {
  int code = 0;
  const std::unique_ptr<zip_t, void (*)(zip_t*)> archive(zip_open(file.c_str(), ZIP_RDONLY, &code),
                                                         zip_discard);
  if (!archive)
    fail(ExitCode::bad_data, "{}: damaged or truncated zip file; download it again", file.string());
  std::string members;
  zip_int64_t wanted = -1, count = 0;
  for (zip_int64_t i = 0; i < zip_get_num_entries(archive.get(), 0); ++i) {
    const char* name = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), 0);
    if (name == nullptr || std::string_view(name).ends_with('/')) continue;
    if (count++ < 5) members += (members.empty() ? "" : ", ") + shown(name);
    wanted = i;
  }
  if (count != 1)
    fail(ExitCode::bad_data, "{}: {} files in the zip ({}{}); unpack the one you mean", file.string(), count,
         members, count > 5 ? ", …" : "");
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> member(
      zip_fopen_index(archive.get(), static_cast<zip_uint64_t>(wanted), 0), zip_fclose);
  const std::string name = file.string() + ": " + members;
  if (!member)
    fail(ExitCode::bad_data, "{}: cannot be unpacked: {}; unpack it yourself", name,
         zip_strerror(archive.get()));
  std::string text = read_all(name, limit_bytes, [&](char* buffer, std::size_t size) {
    const zip_int64_t got = zip_fread(member.get(), buffer, size);
    if (got < 0) fail(ExitCode::bad_data, "{}: damaged in the zip file; download it again", name);
    return static_cast<std::size_t>(got);
  });
  return {name, std::move(text), "zip"};
}

void check_text(const TextFile& file) {
  if (file.text.empty()) fail(ExitCode::bad_data, "{}: empty file; check --signal.file", file.name);
  const auto foreign = std::find_if(file.text.begin(), file.text.end(), [](unsigned char c) {
    return (c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 0x7f;
  });
  if (foreign != file.text.end())
    fail(ExitCode::bad_data, "{}: line {}: not text; check --signal.file", file.name,
         1 + std::count(file.text.begin(), foreign, '\n'));
}

}  // namespace

std::string shown(std::string_view text) {
  std::string result(text.substr(0, 60));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  // Half a UTF-8 character at the cut.
  if (text.size() > 60) {
    while (!result.empty() && (result.back() & 0xC0) == 0x80) result.pop_back();
    if (!result.empty() && (result.back() & 0xC0) == 0xC0) result.pop_back();
    result += "…";
  }
  return result;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 20;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i)
    text += (text.empty() ? "" : ", ") + shown(names[i]);
  return names.size() > kMost ? fmt::format("{} … ({})", text, names.size()) : text;
}

TextFile load_text(const std::filesystem::path& file, std::size_t limit_bytes) {
  std::array<char, 4> magic = {};
  std::ifstream stream(file, std::ios::binary);
  if (!stream || !std::filesystem::is_regular_file(file))
    fail(ExitCode::bad_data, "{}: no such file, or not readable; check --signal.file", file.string());
  stream.read(magic.data(), magic.size());
  TextFile result;
  if (std::string_view(magic.data(), 4) == "PK\3\4") {
    result = read_zip(file, limit_bytes);
  } else {
    const bool gzip = std::string_view(magic.data(), 2) == "\x1f\x8b";
    result = {file.string(), read_gzip_or_plain(file, limit_bytes), gzip ? "gzip" : ""};
  }
  if (result.text.starts_with("\xEF\xBB\xBF")) result.text.erase(0, 3);
  check_text(result);
  return result;
}

}  // namespace spillway
