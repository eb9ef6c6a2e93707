// A server on this machine that answers like the providers' APIs.
#pragma once

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/process.hpp"
#include "energy/http.hpp"
#include "tests/temporary_folder.hpp"

class StandIn {
 public:
  explicit StandIn(const std::vector<std::string>& options = {})
      : tls_(!options.empty() && options[0] == "--tls") {
    spillway::ProcessOptions process;
    process.arguments = {"python3", SPILLWAY_SOURCE_DIR "/tests/unit/api_stand_in.py"};
    process.arguments.insert(process.arguments.end(), options.begin(), options.end());
    process.output_file = (folder_.path() / "port").string();
    process.parent_death_signal = 15;
    process_ = spillway::Process(process);
    for (int tries = 0; tries < 1000 && port_ == 0; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::ifstream(process.output_file) >> port_;
    }
    if (port_ == 0) throw std::runtime_error("the stand-in server does not start");
  }
  ~StandIn() { process_.signal(15); }

  std::string url(const std::string& path = "") const {
    return (tls_ ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port_) + path;
  }
  void get(const std::string& path) const { spillway::http_get({url(path), {}, ""}, {}); }
  // The paths that were asked for.
  std::vector<std::string> log() const {
    return nlohmann::json::parse(spillway::http_get({url("/log"), {}, ""}, {}).body);
  }

 private:
  TemporaryFolder folder_;
  bool tls_;
  spillway::Process process_;
  int port_ = 0;
};
