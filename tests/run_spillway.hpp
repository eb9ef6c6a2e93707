// The program as a user runs it.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/process.hpp"
#include "tests/temporary_folder.hpp"

struct Outcome {
  int status = 0;
  std::string output;  // standard output and error
};

// Runs `spillway <arguments>` to its end.
inline Outcome run_spillway(const std::vector<std::string>& arguments) {
  const TemporaryFolder folder;
  spillway::ProcessOptions options;
  options.arguments = {SPILLWAY_BINARY};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.output_file = (folder.path() / "output").string();
  spillway::Process process(options);
  if (!process.wait(120)) throw std::runtime_error("spillway " + arguments.at(0) + " does not end");
  std::stringstream text;
  text << std::ifstream(options.output_file).rdbuf();
  return {*process.status(), text.str()};
}
