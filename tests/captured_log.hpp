// Standard error, and with it the log, goes into a file while this lives.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/catch.hpp"

class CapturedLog {
 public:
  CapturedLog() : file_(memfd_create("log", MFD_CLOEXEC)), before_(dup(2)) {
    REQUIRE(file_ >= 0);
    REQUIRE(dup2(file_, 2) == 2);
  }
  ~CapturedLog() {
    dup2(before_, 2);
    close(before_);
    close(file_);
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;

  std::string text() const {
    std::string text(static_cast<std::size_t>(lseek(file_, 0, SEEK_END)), ' ');
    const ssize_t got = pread(file_, text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

 private:
  int file_, before_;
};
