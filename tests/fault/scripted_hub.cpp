#include "tests/fault/scripted_hub.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>

#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/log.hpp"

namespace spillway::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<const char*, const char*> kForeign[] = {
    {"OMPI_COMM_WORLD_RANK", "3"},
    {"OMPI_MCA_ess_base_jobid", "1234"},
    {"OMPI_MCA_btl", "vader"},
    {"PMIX_NAMESPACE", "1234"},
    {"PMIX_RANK", "3"},
    {"PMIX_SERVER_URI2", "pmix-server.1;tcp4://127.0.0.1:9"}};

std::string contents(const fs::path& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Members exchange as many floats of optimizer state; those of a round are what they contribute to the next one.
constexpr std::int64_t kStateCount = 777;

// Of what a member has after a merge: the vector and, but for "adopt", the state.
std::string hash_of(std::span<const float> values, std::span<const float> state) {
  return xxh3_hex({bytes_of(values), bytes_of(state)});
}

// Σ weights · contributions to `round`.
std::vector<float> weighted_sum(const std::vector<double>& weights, std::int64_t round, std::size_t count) {
  std::vector<float> sum(count, 0.0f);
  for (std::size_t rank = 0; rank < weights.size(); ++rank)
    for (std::size_t i = 0; i < count; ++i)
      sum[i] += static_cast<float>(weights[rank]) * contribution_of(static_cast<int>(rank), round, i);
  return sum;
}

// pid → parent of all processes.
std::map<pid_t, pid_t> parents() {
  std::map<pid_t, pid_t> result;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    const std::string stat = pid > 0 ? contents(entry.path() / "stat") : "";
    const auto name_end = stat.rfind(')');
    if (name_end != std::string::npos) result[pid] = std::atoi(stat.c_str() + name_end + 4);
  }
  return result;
}

// The leader's side of the protocol, with vectors in place of a model.
class Leader {
 public:
  Leader(const FederationConfig& config, const std::string& name, std::int64_t parameter_count)
      : federation_(config, name, parameter_count, kStateCount, SPILLWAY_BINARY) {
    hello_.member = name;
    hello_.role = "site";
    hello_.run = "test";
    hello_.open = true;
    federation_.send(hello_);
  }

  int run() {
    for (;;) {
      const auto message = federation_.wait(1);
      if (!message) continue;
      if (const auto* refuse = std::get_if<Refuse>(&*message)) return refuse->exit_code;
      if (std::holds_alternative<Complete>(*message)) {
        federation_.send(Bye{"complete"});
        return 0;
      }
      answer(*message);
    }
  }

 private:
  void answer(const Message& message) {
    if (const auto* epoch = std::get_if<Epoch>(&message)) index_ = epoch->index;
    if (const auto* finish = std::get_if<Finish>(&message))
      std::this_thread::sleep_for(std::chrono::seconds(finish->round));
    if (const auto* sync = std::get_if<Sync>(&message)) {
      if (sync->root == index_) {
        fill(federation_.contribution(), 0);
        fill(federation_.velocity(), 1000);
      }
      federation_.send(Prepared{sync->epoch, 0});
    }
    if (const auto* received = std::get_if<Received>(&message)) {
      CommittedModel model = received->model;
      model.hash = xxh3_hex({bytes_of(federation_.contribution()), bytes_of(federation_.velocity())});
      federation_.send(Synced{received->epoch, model});
    }
    if (const auto* go = std::get_if<Go>(&message)) {
      merge_ = go->merge;
      fill(federation_.contribution(), go->round);
      fill(federation_.optimizer_state(), go->round + 1);
      federation_.send(Prepared{go->epoch, go->round});
    }
    if (const auto* done = std::get_if<Exchanged>(&message))
      federation_.send(Done{done->epoch, done->round,
                            hash_of(federation_.contribution(),
                                    merge_ == "adopt" ? std::span<float>() : federation_.optimizer_state()),
                            done->seconds});
  }

  void fill(std::span<float> values, std::int64_t round) const {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = contribution_of(index_, round, i);
  }

  Federation federation_;
  Hello hello_;
  std::string merge_;  // of the last Go
  int index_ = -1;
};

}  // namespace

float contribution_of(int index, std::int64_t round, std::size_t i) {
  return static_cast<float>((static_cast<std::int64_t>(i) * 7 + index * 31 + round * 13) % 1024 * 4);
}

std::vector<float> contribution_vector(int index, std::int64_t round, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = contribution_of(index, round, i);
  return values;
}

bool eventually(double seconds, const std::function<bool()>& done) {
  const double end_s = monotonic_s() + seconds;
  while (!done()) {
    if (monotonic_s() > end_s) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

bool alive(pid_t pid) {
  const std::string stat = contents(fs::path("/proc") / std::to_string(pid) / "stat");
  const auto name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.at(name_end + 2) != 'Z';
}

std::vector<pid_t> children_running(pid_t parent, const std::string& subcommand, std::size_t count) {
  std::vector<pid_t> found;
  const auto look = [&] {
    found.clear();
    for (const auto& [pid, its_parent] : parents()) {
      const std::string words = contents(fs::path("/proc") / std::to_string(pid) / "cmdline");
      if (its_parent == parent && words.find('\0' + subcommand + '\0') != std::string::npos)
        found.push_back(pid);
    }
    return found.size() == count;
  };
  INFO("waiting for " << count << " " << subcommand << " of process " << parent);
  const bool came = eventually(10, look);
  REQUIRE(came);
  return found;
}

Playground::Playground() {
  std::string name = "/tmp/spillway-test-XXXXXX";
  REQUIRE(mkdtemp(name.data()) != nullptr);
  directory_ = name;
  log_ = name + ".log";
  setenv("TMPDIR", directory_.c_str(), 1);
  // What a trainer under mpirun has in its environment, and a gateway must not see.
  for (const auto& [key, value] : kForeign) setenv(key, value, 1);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

Playground::~Playground() {
  unsetenv("TMPDIR");
  for (const auto& [key, value] : kForeign) unsetenv(key);
  if (std::uncaught_exceptions() > 0) std::cerr << contents(log_) << "\n";
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  fs::remove(log_, ignored);
}

std::string Playground::leftovers() {
  std::string found;
  eventually(5, [&] {
    found.clear();
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
    for (const auto& [pid, parent] : parents())
      if (parent == getpid()) found += contents(fs::path("/proc") / std::to_string(pid) / "cmdline") + "\n";
    for (const auto& entry : fs::recursive_directory_iterator(directory_))
      found += entry.path().string() + "\n";
    return found.empty();
  });
  return found;
}

Member::Member(const Playground& playground, const FederationConfig& config, const std::string& name,
               std::int64_t parameter_count) {
  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ > 0) return;
  // The child must not fall back into the test runner, whatever happens.
  int code = 99;
  try {
    const int log = open(playground.log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(log, 2);
    for (int number = 3; number < 256; ++number) close(number);  // the hub's sockets
    set_log_source(name);
    code = Leader(config, name, parameter_count).run();
  } catch (const std::exception& error) {
    log_error("{}", error.what());
  }
  _exit(code);
}

void Member::kill_leader() {
  kill(pid_, SIGKILL);
  wait();
}

bool Member::running() {
  int status = 0;
  if (!status_ && waitpid(pid_, &status, WNOHANG) == pid_) status_ = shell_status(status);
  return !status_;
}

int Member::wait() {
  CHECK(eventually(20, [&] { return !running(); }));
  return status_.value_or(-1);
}

Member::~Member() {
  if (!running()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

ScriptedHub::ScriptedHub(const Playground& playground)
    : listener_({"127.0.0.1", 0}), log_(playground.log()) {}

FederationConfig ScriptedHub::member_config() const {
  FederationConfig config;
  config.hub = format_endpoint({"127.0.0.1", listener_.port()});
  config.interface = "lo";
  // Many epochs within a minute, and other tests at the same time.
  config.port_count = 2000;
  config.port_min = 22000 + getpid() % 5 * config.port_count;
  config.heartbeat_s = 0.2;
  config.lost_after_s = 3;
  config.exchange_deadline_s = 3;
  return config;
}

bool ScriptedHub::connected(const std::string& name) const {
  const auto found = members_.find(name);
  return found != members_.end() && found->second.open();
}

void ScriptedHub::accept() {
  while (auto socket = listener_.accept(4)) greeting_.push_back(std::move(*socket));
  for (auto& socket : greeting_) {
    socket.on_ready();
    const auto line = socket.next_line();
    if (!line) continue;
    const Hello hello = std::get<Hello>(decode(*line));
    if (connected(hello.member)) {
      socket.send(encode(Refuse{64, "a site named " + hello.member + " is already connected"}));
      socket.close("refused");
      continue;
    }
    hellos_[hello.member] = hello;
    inboxes_[hello.member] = {hello};
    members_[hello.member] = std::move(socket);
    socket.close("moved");
    send(hello.member, Welcome{});
  }
  std::erase_if(greeting_, [](const LineSocket& socket) { return socket.closed(); });
}

void ScriptedHub::run(double seconds) {
  const double end_s = monotonic_s() + seconds;
  do {
    accept();
    for (auto& [name, socket] : members_) {
      socket.on_ready();
      while (const auto line = socket.next_line()) inboxes_[name].push_back(decode(*line));
    }
    if (monotonic_s() - beat_s_ > 0.3) {
      beat_s_ = monotonic_s();
      HubHeartbeat heartbeat;
      for (const auto& [name, hello] : hellos_)
        if (connected(name)) heartbeat.peers[name] = hello.probe;
      for (auto& [name, socket] : members_) socket.send(encode(heartbeat));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  } while (monotonic_s() < end_s);
}

Hello ScriptedHub::await_hello(const std::string& name) { return expect<Hello>(name); }

void ScriptedHub::send(const std::string& name, const Message& message) { send_line(name, encode(message)); }

void ScriptedHub::send_line(const std::string& name, const std::string& line) { members_[name].send(line); }

void ScriptedHub::disconnect(const std::string& name) {
  members_[name].close("by the test");
  inboxes_[name].clear();
}

std::int64_t ScriptedHub::begin_epoch(const std::vector<std::string>& members, int streams) {
  const fs::path directory = fs::path(std::getenv("TMPDIR")) / ("server-" + std::to_string(++epoch_));
  fs::create_directory(directory);
  ProcessOptions options;
  options.arguments = {"ompi-server", "--no-daemonize", "--report-uri", (directory / "uri").string()};
  options.environment = {
      {"PATH", std::getenv("PATH")},          {"HOME", "/"},
      {"TMPDIR", directory.string()},         {"OMPI_MCA_orte_tmpdir_base", directory.string()},
      {"OMPI_MCA_oob_tcp_if_include", "lo"},  {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
      {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  options.output_file = log_;
  name_server_.emplace(options);
  std::string uri;
  const bool started = eventually(10, [&] {
    uri = contents(directory / "uri");
    return uri.find('\n') != std::string::npos;
  });
  REQUIRE(started);
  epoch_members_ = members;
  for (std::size_t i = 0; i < members.size(); ++i)
    send(members[i], Epoch{epoch_, uri.substr(0, uri.find('\n')), members, static_cast<int>(i), streams});
  return epoch_;
}

std::int64_t ScriptedHub::form(const std::vector<std::string>& members, int streams) {
  begin_epoch(members, streams);
  for (const auto& name : members) CHECK(expect<Formed>(name).epoch == epoch_);
  return epoch_;
}

void ScriptedHub::merge(const Go& go, std::size_t parameter_count) {
  for (const auto& name : epoch_members_) send(name, go);
  const std::string expected = go.merge == "adopt"
                                   ? hash_of(contribution_vector(go.root, go.round, parameter_count), {})
                                   : hash_of(weighted_sum(go.weights, go.round, parameter_count),
                                             weighted_sum(go.weights, go.round + 1, kStateCount));
  for (const auto& name : epoch_members_) {
    const Done done = expect<Done>(name);
    INFO(name);
    CHECK(done.round == go.round);
    CHECK(done.hash == expected);
  }
  for (const auto& name : epoch_members_) send(name, Commit{epoch_, go.round, go.next});
}

void ScriptedHub::stop() {
  for (const auto& name : epoch_members_) send(name, Stop{epoch_});
  for (const auto& name : epoch_members_) CHECK(expect<Stopped>(name).epoch == epoch_);
  name_server_.reset();
  fs::remove_all(fs::path(std::getenv("TMPDIR")) / ("server-" + std::to_string(epoch_)));
}

void ScriptedHub::abort() {
  for (const auto& name : epoch_members_)
    if (connected(name)) send(name, Abort{epoch_, "by the test"});
  name_server_.reset();
  fs::remove_all(fs::path(std::getenv("TMPDIR")) / ("server-" + std::to_string(epoch_)));
}

}  // namespace spillway::testing
