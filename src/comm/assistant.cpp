#include "comm/assistant.hpp"

#include <utility>

namespace spillway {

Assistant::Assistant(bool own_thread) {
  if (own_thread) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Assistant::submit(std::function<void()> work) {
  if (!thread_.joinable()) return work();
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(work));
  }
  arrived_.notify_one();
}

void Assistant::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (arrived_.wait(lock, stop, [this] { return !waiting_.empty(); }) && !stop.stop_requested()) {
    const std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace spillway
