// Works off short pieces of work in order, on a thread of its own or, where there is no processor for one, at once.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace spillway {

class Assistant {
 public:
  // own_thread: whether there is one.
  explicit Assistant(bool own_thread);
  // What has not begun is dropped; what has begun is waited for.
  ~Assistant() = default;
  Assistant(const Assistant&) = delete;
  Assistant& operator=(const Assistant&) = delete;

  // It must not throw. How far the thread is, the work itself has to tell.
  void submit(std::function<void()> work);

 private:
  void run(const std::stop_token& stop);

  std::mutex mutex_;
  std::condition_variable_any arrived_;
  std::deque<std::function<void()>> waiting_;
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace spillway
