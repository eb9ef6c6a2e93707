// spillway verify: whether checkpoints are whole.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/checkpoint_check.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// The file, or all checkpoints in a site's folder or in the folders of a run.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> files = list_checkpoints(path);
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.is_directory())
      for (auto& file : list_checkpoints(entry.path())) files.push_back(std::move(file));
  if (files.empty())
    fail(ExitCode::bad_data, "{}: there are no checkpoints in this folder or those in it", path.string());
  return files;
}

void verify(const std::filesystem::path& file) {
  const double start_s = monotonic_s();
  const CheckpointReader reader(file);
  require_complete(reader);
  reader.verify();
  std::cout << fmt::format("{}: whole, {} datasets, {:.1f} MiB, digest {}, {:.2f} s\n", file.string(),
                           reader.datasets().size(), static_cast<double>(reader.bytes()) / (1 << 20),
                           reader.digest(), monotonic_s() - start_s);
}

}  // namespace

int run_verify(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "verify";
  spec.summary = "Reads checkpoints whole and compares every checksum; exit code 65 where one is not whole.";
  spec.usage = "spillway verify FILE|FOLDER";
  std::string path;
  spec.options.add_options()("path", po::value(&path),
                             "a checkpoint, or a folder with checkpoints; also without --path");
  spec.positional.add("path", 1);
  if (!parse(spec, arguments)) return 0;
  if (path.empty()) fail(ExitCode::usage, "spillway verify needs a checkpoint or a folder; see --help");
  const auto files = files_of(path);
  ExitCode worst = ExitCode::complete;
  for (const auto& file : files) {
    try {
      verify(file);
    } catch (const Error& error) {
      log_error("{}", error.what());
      worst = error.code();
    }
  }
  return static_cast<int>(worst);
}

}  // namespace spillway::cli
