// Owner of one file descriptor, and the numbers under which descriptors are inherited.
#pragma once

#include <unistd.h>

#include <utility>

namespace spillway {

// Where a courier or gateway finds what its parent hands it: a socket for lines, and the mailbox.
inline constexpr int kControlDescriptor = 3;
inline constexpr int kMailboxDescriptor = 4;

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  ~Descriptor() { reset(); }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  void reset() {
    if (number_ >= 0) close(number_);
    number_ = -1;
  }

 private:
  int number_ = -1;
};

}  // namespace spillway
