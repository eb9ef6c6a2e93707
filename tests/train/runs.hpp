// Runs of the real program on small data, for tests.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/process.hpp"
#include "data/shard.hpp"
#include "io/checkpoint.hpp"
#include "io/checkpoint_folder.hpp"
#include "tests/catch.hpp"

namespace runs {

using Arguments = std::vector<std::string>;

struct Result {
  int status = -1;
  std::string output;  // standard output and error
};

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline spillway::ProcessOptions command(int ranks, const Arguments& arguments,
                                        const std::filesystem::path& log) {
  spillway::ProcessOptions options;
  options.arguments = {"env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                       "OMP_NUM_THREADS=1", "HWLOC_COMPONENTS=-opencl"};  // mpirun forwards signals
  if (ranks > 0)
    options.arguments.insert(options.arguments.end(),
                             {"mpirun", "--oversubscribe", "--bind-to", "none", "--mca",
                              "mpi_yield_when_idle", "1", "-n", std::to_string(ranks)});
  options.arguments.emplace_back(SPILLWAY_BINARY);
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.output_file = log.string();
  return options;
}

// Runs `spillway arguments…`, with ranks > 0 under mpirun, and waits for its end.
inline Result run(int ranks, const Arguments& arguments, const std::filesystem::path& folder,
                  double patience_s = 120) {
  const auto log = folder / "output.log";
  std::filesystem::remove(log);
  spillway::Process process(command(ranks, arguments, log));
  Result result;
  if (process.wait(patience_s)) result.status = *process.status();
  result.output = read_file(log);
  return result;
}

// Token shards of a text with structure: a seeded walk over 64 tokens where each is mostly followed by its neighbour.
inline void write_data(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::vector<std::uint16_t> tokens(60000);
  std::uint32_t state = 12345;
  std::uint16_t token = 0;
  for (auto& next : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<std::uint16_t>((state >> 16) % 4 != 0 ? (token + 1) % 64 : (state >> 20) % 64);
    next = token;
  }
  spillway::write_shard(folder / "train_000000.bin", std::span(tokens).first(50000));
  spillway::write_shard(folder / "val_000000.bin", std::span(tokens).subspan(50000));
}

// A model of 2 layers that trains some hundred steps in a second.
inline Arguments small_model(const std::filesystem::path& data) {
  return {"--data.dir",        data.string(), "--model.layers",     "2",   "--model.width",           "64",
          "--model.heads",     "2",           "--model.sequence",   "32",  "--train.tokens-per-step", "512",
          "--train.val-every", "20",          "--train.val-tokens", "512", "--train.threads",         "1"};
}

inline Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline spillway::CheckpointReader newest(const std::filesystem::path& folder) {
  return spillway::CheckpointReader(spillway::newest_checkpoint(folder).value());
}

// A hub and gateways on ports of this process's own: tests run side by side, and the Slurm clusters of tests/slurm/lab.py
// have the ports below these. A block is taken as there, by holding its last port for as long as the process lives. All are
// below 32768, from where on Linux gives ports to connections that ask for none.
inline Arguments own_ports() {
  static const int base = [] {
    for (int first = 17000; first < 22000; first += 500) {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(static_cast<std::uint16_t>(first + 499));
      const int held = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (bind(held, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return first;
      close(held);
    }
    throw std::runtime_error("ports 17000 to 21999 are all in use");
  }();
  return {"--federation.hub",        "127.0.0.1:" + std::to_string(base), "--federation.port-min",
          std::to_string(base + 10), "--federation.port-count",           "480"};
}

// What `spillway report` says of a run, as JSON.
inline nlohmann::json report(const std::filesystem::path& run_folder, const Arguments& more = {}) {
  const Result result =
      run(0, Arguments{"report", run_folder.string(), "--format", "json"} + more, run_folder.parent_path());
  INFO(result.output);
  REQUIRE(result.status == 0);
  return nlohmann::json::parse(result.output.substr(result.output.find('{')));
}

}  // namespace runs
