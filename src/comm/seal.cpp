#include "comm/seal.hpp"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "comm/descriptor.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::size_t kShortestKey = 32, kLongestKey = 4096;
constexpr std::size_t kMacBytes = 32, kMacDigits = 2 * kMacBytes;
constexpr std::string_view kVersion = "1 ";
constexpr const char* kMake = "make one with: (umask 077; openssl rand -hex 32 > FILE)";

using Mac = std::array<unsigned char, kMacBytes>;

Mac hmac(const std::string& key, std::string_view text) {
  Mac mac;
  unsigned int size = 0;
  const auto* result =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac.data(), &size);
  if (result == nullptr || size != mac.size()) fail(ExitCode::internal, "OpenSSL: HMAC-SHA256 failed");
  return mac;
}

std::string hex(std::span<const unsigned char> bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string code_of(const std::string& key, std::uint64_t number, std::string_view line) {
  std::string text;
  for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift & 0xff);
  text += line;
  return hex(hmac(key, text));
}

}  // namespace

Key::Key(const std::filesystem::path& file) {
  // Not blocking: a FIFO of that name must not hang the hub.
  const Descriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!descriptor || fstat(descriptor.get(), &status) != 0)
    fail(ExitCode::io, "federation.key-file {}: {}; {}", file.string(), std::strerror(errno), kMake);
  if (!S_ISREG(status.st_mode))
    fail(ExitCode::usage, "federation.key-file {}: not a regular file", file.string());
  if (status.st_uid != geteuid() && status.st_uid != 0)
    fail(ExitCode::usage, "federation.key-file {}: belongs to user {}: it must be your own", file.string(),
         status.st_uid);
  if ((status.st_mode & 0177) != 0)
    fail(ExitCode::usage,
         "federation.key-file {}: mode {:04o} lets others use the key: chmod 600 it, and change the key",
         file.string(), status.st_mode & 07777);
  bytes_.resize(kLongestKey + 1);
  const ssize_t got = ::read(descriptor.get(), bytes_.data(), bytes_.size());
  if (got < 0) fail(ExitCode::io, "federation.key-file {}: {}", file.string(), std::strerror(errno));
  bytes_.resize(static_cast<std::size_t>(got));
  while (!bytes_.empty() && std::strchr(" \t\r\n", bytes_.back()) != nullptr) bytes_.pop_back();
  if (bytes_.size() < kShortestKey || bytes_.size() > kLongestKey)
    fail(ExitCode::usage, "federation.key-file {}: has {} bytes, a key has {} to {}; {}", file.string(),
         bytes_.size(), kShortestKey, kLongestKey, kMake);
}

Key::~Key() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

SharedKey read_key(const std::string& file) {
  return file.empty() ? nullptr : std::make_shared<const Key>(file);
}

Seal::Seal(SharedKey key, Side side) : key_(std::move(key)), side_(side) {
  Mac random;
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1)
    fail(ExitCode::internal, "OpenSSL: no random numbers");
  challenge_ = hex(random);
}

std::string Seal::greeting() const { return std::string(kSealGreeting) + std::string(kVersion) + challenge_; }

std::optional<std::string> Seal::open(std::string_view line) {
  if (!keyed()) {
    const std::size_t prefix = kSealGreeting.size() + kVersion.size();
    if (!line.starts_with(kSealGreeting))
      fail(ExitCode::bad_data,
           "it does not authenticate itself: federation.key-file must be set on both sides");
    if (line.substr(kSealGreeting.size(), kVersion.size()) != kVersion ||
        line.size() != prefix + kMacDigits || !is_hex(line.substr(prefix)))
      fail(ExitCode::bad_data, "its challenge is malformed");
    const std::string other(line.substr(prefix));
    if (other == challenge_) fail(ExitCode::bad_data, "it sends this side's own challenge back");
    const bool hub = side_ == Side::hub;
    const std::string both = hub ? challenge_ + other : other + challenge_;
    const auto key_for = [&](const char* direction) {
      const Mac mac = hmac(key_->bytes(), std::string("spillway 1 ") + direction + " " + both);
      return std::string(mac.begin(), mac.end());
    };
    send_key_ = key_for(hub ? "hub to member" : "member to hub");
    receive_key_ = key_for(hub ? "member to hub" : "hub to member");
    return std::nullopt;
  }
  const bool first = lines_received_ == 0;
  const bool whole = line.size() >= kSealBytes && line[kMacDigits] == ' ';
  const std::string_view said = whole ? line.substr(kSealBytes) : std::string_view();
  const std::string expected = code_of(receive_key_, lines_received_, said);
  if (!whole || CRYPTO_memcmp(expected.data(), line.data(), kMacDigits) != 0)
    fail(ExitCode::bad_data, "{}",
         first ? "its key is not the same as ours (federation.key-file)"
               : "a line was changed, repeated or lost on the way");
  ++lines_received_;
  if (!first) return std::string(said);
  if (!said.empty()) fail(ExitCode::bad_data, "its proof is malformed");
  return std::nullopt;
}

std::string Seal::close(std::string_view line) {
  SPILLWAY_CHECK(keyed());
  return code_of(send_key_, lines_sent_++, line) + " " + std::string(line);
}

}  // namespace spillway
