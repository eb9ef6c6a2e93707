#include "train/background_writer.hpp"

#include <chrono>
#include <exception>

#include "core/clock.hpp"
#include "core/error.hpp"

namespace spillway {

void BackgroundWriter::start(std::function<Committed()> write) {
  SPILLWAY_CHECK(!busy());
  running_ = std::async(std::launch::async, [write = std::move(write)] {
    Result result;
    const double start_s = monotonic_s();
    try {
      result.committed = write();
    } catch (const std::exception& error) {
      result.error = error.what();
    }
    result.seconds = monotonic_s() - start_s;
    return result;
  });
}

std::optional<BackgroundWriter::Result> BackgroundWriter::poll() {
  if (!busy() || running_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
  return running_.get();
}

BackgroundWriter::Result BackgroundWriter::wait() {
  SPILLWAY_CHECK(busy());
  return running_.get();
}

}  // namespace spillway
