// A hub that does what a test tells it, and members (leaders without a model) as processes of their own, so that the
// transport can be tested alone and its processes killed.
#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/federation.hpp"
#include "comm/line_socket.hpp"
#include "comm/protocol.hpp"
#include "core/clock.hpp"
#include "core/process.hpp"
#include "tests/catch.hpp"

namespace spillway::testing {

// What member `index` of an epoch contributes in `round`: whole numbers, so that sums are exact in any order.
float contribution_of(int index, std::int64_t round, std::size_t i);
std::vector<float> contribution_vector(int index, std::int64_t round, std::size_t count);

// A fresh directory for everything that the processes of a test leave behind, which must be nothing. Also adopts
// orphans, so that left-over processes are found.
class Playground {
 public:
  Playground();
  ~Playground();  // prints the members' log if the test has failed
  const std::string& log() const { return log_; }
  // What is still there after a few seconds: processes and files. Empty: nothing.
  std::string leftovers();

 private:
  std::string directory_, log_;
};

// The processes of `spillway <subcommand>` with the parent given; waits until there are so many.
std::vector<pid_t> children_running(pid_t parent, const std::string& subcommand, std::size_t count);
bool alive(pid_t pid);
// Calls `done` until it is true or `seconds` have passed.
bool eventually(double seconds, const std::function<bool()>& done);

// A leader in a process of its own that answers the hub like a trainer: contributes, hashes, reports. After a Finish it is
// busy with its last step for as many seconds as the round's number says.
class Member {
 public:
  Member(const Playground& playground, const FederationConfig& config, const std::string& name,
         std::int64_t parameter_count);
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  pid_t pid() const { return pid_; }
  pid_t courier() const { return children_running(pid_, "courier", 1)[0]; }
  pid_t gateway() const { return gateways(1)[0]; }
  std::vector<pid_t> gateways(std::size_t count) const {
    return children_running(courier(), "gateway", count);
  }
  void kill_leader();
  bool running();
  // The exit code, once it has ended.
  int wait();

 private:
  pid_t pid_ = 0;
  std::optional<int> status_;
};

class ScriptedHub {
 public:
  explicit ScriptedHub(const Playground& playground);

  FederationConfig member_config() const;
  bool connected(const std::string& name) const;
  Hello await_hello(const std::string& name);
  void send(const std::string& name, const Message& message);
  void send_line(const std::string& name, const std::string& line);
  void disconnect(const std::string& name);
  // Handles what has come for up to `seconds`.
  void run(double seconds);

  // The next message of this type from the member; others before it are dropped.
  template <class T>
  T expect(const std::string& name) {
    std::optional<T> found;
    INFO("waiting for a message from " << name);
    const bool came = eventually(30, [&] {
      run(0.02);
      auto& inbox = inboxes_[name];
      while (!inbox.empty() && !found) {
        if (const auto* message = std::get_if<T>(&inbox.front())) found = *message;
        inbox.pop_front();
      }
      return found.has_value();
    });
    REQUIRE(came);
    return *found;
  }

  // Starts a name server and an epoch.
  std::int64_t begin_epoch(const std::vector<std::string>& members, int streams = 1);
  // And waits until it is formed.
  std::int64_t form(const std::vector<std::string>& members, int streams = 1);
  // Runs one merge with all members of the epoch and checks that the result is right and equal on all.
  void merge(const Go& go, std::size_t parameter_count);
  void stop();
  void abort();
  std::int64_t epoch() const { return epoch_; }

 private:
  void accept();

  Listener listener_;
  std::string log_;
  std::vector<LineSocket> greeting_;  // connected, no hello yet
  std::map<std::string, LineSocket> members_;
  std::map<std::string, Hello> hellos_;
  std::map<std::string, std::deque<Message>> inboxes_;
  std::optional<Process> name_server_;
  std::vector<std::string> epoch_members_;
  std::int64_t epoch_ = 0;
  double beat_s_ = 0;
};

}  // namespace spillway::testing
