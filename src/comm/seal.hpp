// Authentication of connections by a key that hub and members share.
//
// Each side opens with a line "spillway-auth 1 <64 hex digits>", its challenge: 32 random bytes. From the key and both
// challenges follow two keys of this connection, one per direction. Every later line is "<64 hex digits> <line>": the
// HMAC-SHA256, with its direction's key, of the line's number (8 bytes, big-endian, from 0) and the line. Line 0 is
// empty: the proof. So a line that was changed, left out, repeated, sent in another connection or sent back to its
// sender is refused. Nothing is encrypted. SECURITY.md has the threat model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace spillway {

inline constexpr std::string_view kSealGreeting = "spillway-auth ";
inline constexpr std::size_t kSealBytes = 65;  // of a line's code and the blank behind it
inline constexpr std::size_t kMaxHandshakeLine =
    128;  // longer ones are refused before a side is authenticated

class Key {
 public:
  // The file's bytes, without white space at the end; 32 to 4096 of them. Throws Error(usage) where the file is no
  // regular file of this user or root, readable by others, too short or too long; Error(io) where it cannot be read.
  explicit Key(const std::filesystem::path& file);
  ~Key();
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};
using SharedKey = std::shared_ptr<const Key>;

// The key of federation.key-file; null where the name is empty.
SharedKey read_key(const std::string& file);

// One side of one connection.
class Seal {
 public:
  enum class Side { hub, member };
  Seal(SharedKey key, Side side);

  std::string greeting() const;  // this side's first line
  // Takes the other side's next line and returns what it says; nothing for greeting and proof. Throws
  // Error(bad_data) for a line that the holder of the key has not sent here and now.
  std::optional<std::string> open(std::string_view line);
  // The line as it is sent. Requires keyed().
  std::string close(std::string_view line);

  bool keyed() const { return !send_key_.empty(); }           // the other side's challenge is known
  bool authenticated() const { return lines_received_ > 0; }  // and it has shown that it has the key

 private:
  SharedKey key_;
  Side side_;
  std::string challenge_;  // hex
  std::string send_key_, receive_key_;
  std::uint64_t lines_sent_ = 0, lines_received_ = 0;
};

}  // namespace spillway
