// The small parts of the transport: mailbox, session directories, ports, environment, probes.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "comm/gateway_process.hpp"
#include "comm/mailbox.hpp"
#include "comm/prober.hpp"
#include "comm/session_directory.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "tests/catch.hpp"

using namespace spillway;
namespace fs = std::filesystem;

namespace {

// $TMPDIR as a fresh directory for the time of a test.
class TemporaryBase {
 public:
  TemporaryBase() {
    std::string name = "/tmp/spillway-test-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    setenv("TMPDIR", path_.c_str(), 1);
  }
  ~TemporaryBase() {
    if (before_.empty())
      unsetenv("TMPDIR");
    else
      setenv("TMPDIR", before_.c_str(), 1);
    fs::remove_all(path_);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  std::string before_;
};

FederationConfig good_config() {
  FederationConfig config;
  config.hub = "127.0.0.1:7000";
  return config;
}

std::string usage_error_of(const FederationConfig& config) {
  try {
    check_federation(config);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("a mailbox is the same memory for whoever holds its descriptor") {
  const Mailbox mailbox = Mailbox::create(5000, 7000);
  const Mailbox other = Mailbox::attach(Descriptor(dup(mailbox.descriptor())));
  REQUIRE(other.parameter_count() == 5000);
  REQUIRE(mailbox.contribution().size() == 5000);
  REQUIRE(other.optimizer_state().size() == 7000);
  CHECK(mailbox.contribution()[4999] == 0.0f);
  mailbox.contribution()[4999] = 1.5f;
  other.velocity()[0] = -2.5f;
  CHECK(other.contribution()[4999] == 1.5f);
  CHECK(mailbox.velocity()[0] == -2.5f);
  // No array reaches into the next one.
  for (const auto& [array, value] :
       {std::pair(mailbox.contribution(), 1.0f), std::pair(mailbox.velocity(), 2.0f),
        std::pair(mailbox.optimizer_state(), 3.0f)})
    std::fill(array.begin(), array.end(), value);
  mailbox.reserve_feedback();
  std::fill(mailbox.feedback().begin(), mailbox.feedback().end(), 4.0f);
  const auto all_are = [](std::span<const float> array, float value) {
    return std::all_of(array.begin(), array.end(), [&](float each) { return each == value; });
  };
  CHECK(all_are(other.contribution(), 1));
  CHECK(all_are(other.velocity(), 2));
  CHECK(all_are(other.optimizer_state(), 3));
  CHECK(all_are(other.feedback(), 4));
  const auto beats = other.beats();
  mailbox.beat();
  CHECK(other.beats() == beats + 1);
  CHECK((fcntl(mailbox.descriptor(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("what is not a mailbox is refused") {
  const TemporaryBase base;
  const auto attach_error = [&](const std::string& content) {
    std::ofstream(base.path() / "file") << content;
    Descriptor file(open((base.path() / "file").c_str(), O_RDWR | O_CLOEXEC));
    const std::string number = std::to_string(file.get());
    try {
      Mailbox::attach(std::move(file));
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::bad_data);
      std::string text = error.what();
      return text.replace(text.find(number), number.size(), "N");
    }
    return std::string("accepted");
  };
  CHECK(attach_error("") == "mailbox: descriptor N cannot be read");
  CHECK(attach_error(std::string(8192, 'x')) == "mailbox: descriptor N is not a mailbox");
  // The right beginning, the wrong length.
  const Mailbox mailbox = Mailbox::create(10);
  std::string header(32, '\0');
  REQUIRE(pread(mailbox.descriptor(), header.data(), header.size(), 0) == 32);
  CHECK(attach_error(header) == "mailbox: descriptor N is not a mailbox");
}

TEST_CASE("a sweep takes the session directories of ended processes and no others") {
  const TemporaryBase base;
  fs::create_directory(base.path() / "spillway-other");
  fs::create_directories(base.path() / "spillway-session-dead" / "17" / "ompi");
  std::ofstream(base.path() / "spillway-session-dead" / "17" / "ompi" / "file") << "x";
  fs::path own;
  {
    const SessionDirectory living;
    own = living.path();
    CHECK(own.parent_path() == base.path());
    CHECK(SessionDirectory::sweep() == 1);
    CHECK(fs::exists(own));
    CHECK_FALSE(fs::exists(base.path() / "spillway-session-dead"));
    CHECK(fs::exists(base.path() / "spillway-other"));
  }
  CHECK_FALSE(fs::exists(own));
}

TEST_CASE("session directories stay short enough for sockets below them") {
  const TemporaryBase base;
  CHECK(session_base() == base.path());
  setenv("TMPDIR", ("/tmp/" + std::string(60, 'x')).c_str(), 1);
  CHECK(session_base() == "/tmp");
  setenv("TMPDIR", "relative", 1);
  CHECK(session_base() == "/tmp");
}

TEST_CASE("ports are split without overlap") {
  FederationConfig config = good_config();
  config.port_count = GENERATE(128, 200, 999);
  std::set<int> used;
  const PortRange transfer = transfer_ports(config);
  for (int port = transfer.first; port <= transfer.last; ++port) CHECK(used.insert(port).second);
  const auto slots = port_slots(config);
  CHECK(slots.size() == 16);
  for (const PortSlot& slot : slots) {
    CHECK(used.insert(slot.probe).second);
    CHECK(slot.runtime.first <= slot.runtime.last);
    for (int port = slot.runtime.first; port <= slot.runtime.last; ++port) CHECK(used.insert(port).second);
  }
  CHECK(*used.begin() == config.port_min);
  CHECK(*used.rbegin() < config.port_min + config.port_count);
}

TEST_CASE("a port in use is not free") {
  const Listener taken({"127.0.0.1", 0});
  CHECK_FALSE(free_port({taken.port(), taken.port()}));
}

TEST_CASE("a configuration that cannot work here is refused with the key's name") {
  CHECK(usage_error_of(good_config()) == "accepted");
  FederationConfig config = good_config();
  SECTION("hub") {
    config.hub = "nowhere";
    CHECK(usage_error_of(config) == "--federation.hub nowhere: expected HOST:PORT");
  }
  SECTION("ports") {
    config.port_min = 65500;
    CHECK(usage_error_of(config) ==
          "--federation.port-min 65500 with --federation.port-count 1000: not within 1024 to 65535");
  }
  SECTION("too few ports") {
    config.port_count = 10;
    CHECK(usage_error_of(config) == "--federation.port-count 10: at least 128 are needed");
  }
  SECTION("heartbeat") {
    config.heartbeat_s = 4;
    CHECK(usage_error_of(config) ==
          "--federation.lost-after 5s: must be at least twice --federation.heartbeat 4s");
  }
  SECTION("averaged optimizers with overlap") {
    config.average_optimizer = true;
    CHECK(usage_error_of(config) == "accepted");
    config.overlap = true;
    CHECK(usage_error_of(config) ==
          "--federation.average-optimizer on: needs --federation.overlap off, as the state has moved on when "
          "a merge beside training ends");
  }
  SECTION("interface") {
    config.interface = "wan7,10.255.255.0/30";
    CHECK(
        usage_error_of(config).rfind("--federation.interface wan7,10.255.255.0/30: no such interface with an "
                                     "IPv4 address; here are: ",
                                     0) == 0);
  }
}

TEST_CASE("interfaces are named or given as a block") {
  CHECK(interface_address("lo") == "127.0.0.1");
  CHECK(interface_address("wan7,lo") == "127.0.0.1");
  CHECK(interface_address("127.0.0.0/8") == "127.0.0.1");
}

TEST_CASE("a gateway's environment holds nothing of the trainer's job") {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_JOB_ID", "OMPI_MCA_btl", "PRTE_X"})
    setenv(name, "7", 1);
  const auto environment = gateway_environment(good_config(), "1.0;tcp://10.0.0.1:5", 21111, "/tmp/x");
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_JOB_ID", "OMPI_MCA_btl", "PRTE_X"})
    unsetenv(name);
  for (const auto& [name, value] : environment) {
    INFO(name << "=" << value);
    CHECK(value != "7");
  }
  CHECK(environment.at("OMPI_MCA_btl") == "tcp,self");
  CHECK(environment.at("OMPI_MCA_pml") == "ob1");
  CHECK(environment.at("OMPI_MCA_btl_tcp_flags") == "send");
  CHECK(environment.at("OMPI_MCA_btl_tcp_links") == "1");
  CHECK(environment.at("OMPI_MCA_btl_tcp_if_include") == "lo");
  CHECK(environment.at("OMPI_MCA_btl_tcp_port_min_v4") == "21000");
  CHECK(environment.at("OMPI_MCA_btl_tcp_port_range_v4") == "500");
  CHECK(environment.at("OMPI_MCA_oob_tcp_dynamic_ipv4_ports") == "21111");
  CHECK(environment.at("OMPI_MCA_pmix_server_uri") == "1.0;tcp://10.0.0.1:5");
  CHECK(environment.at("TMPDIR") == "/tmp/x");
  CHECK(environment.count("OMPI_ALLOW_RUN_AS_ROOT") == (geteuid() == 0 ? 1 : 0));
}

TEST_CASE("couriers see which others they reach") {
  FederationConfig config = good_config();
  config.port_min = 28000;
  Prober a("127.0.0.1", port_slots(config)), b("127.0.0.1", port_slots(config));
  CHECK(a.endpoint() != b.endpoint());
  int closed_port;
  {
    const Listener listener({"127.0.0.1", 0});
    closed_port = listener.port();
  }
  a.set_peers(
      {{"b", b.endpoint()}, {"gone", format_endpoint({"127.0.0.1", closed_port})}, {"odd", "no address"}});
  CHECK_FALSE(a.reach().at("b"));
  const double end_s = monotonic_s() + 5;
  while (!a.reach().at("b") && monotonic_s() < end_s) {
    a.step();
    b.step();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(a.reach() == std::map<std::string, bool>{{"b", true}, {"gone", false}, {"odd", false}});
  a.set_peers({});
  CHECK(a.reach().empty());
}
