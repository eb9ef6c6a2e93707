// Writes one checkpoint at a time on a thread of its own: training waits only for the copy of its state.
// While a write is in progress no other thread of the process may use src/io.
#pragma once

#include <functional>
#include <future>
#include <optional>
#include <string>

#include "io/checkpoint.hpp"

namespace spillway {

class BackgroundWriter {
 public:
  struct Result {
    Committed committed;  // what is on disk
    std::string error;    // empty: it is
    double seconds = 0;
  };

  bool busy() const { return running_.valid(); }  // until its result is taken

  // What write throws becomes the result's error. Only one at a time.
  void start(std::function<Committed()> write);

  // The result, once, when there is one.
  std::optional<Result> poll();
  // Waits for it. Only while busy.
  Result wait();

 private:
  std::future<Result> running_;  // waits for the thread when it is destroyed
};

}  // namespace spillway
