// Command lines and configuration files: `spillway <command> [--config FILE.ini] [--section.key value …]`.
#pragma once

#include <boost/program_options.hpp>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"

namespace spillway::cli {

// What one subcommand accepts besides the configuration keys.
struct CommandSpec {
  std::string name;     // "windows"
  std::string summary;  // one line for `spillway --help`
  std::string usage;    // "spillway windows --signal FILE --region NAME [options]"
  // Options of this command alone, bound to the command's own variables.
  boost::program_options::options_description options;
  boost::program_options::positional_options_description positional;
  // Short names for configuration keys, e.g. {"region", "signal.region"}.
  std::map<std::string, std::string> aliases;
  // Sections that --help lists, e.g. {"signal", "gate"}. All keys are accepted everywhere.
  std::vector<std::string> sections;
};

// Parses command line and configuration file. Order of precedence: command line, [site.NAME] of the selected site,
// [section]s, defaults. Handles --help and --print-config itself: then the result is empty and the caller returns 0.
// Throws Error(usage) for unknown keys (naming the nearest known one), bad values and unreadable files.
std::optional<Config> parse(CommandSpec& spec, const std::vector<std::string>& arguments);

// For `spillway local`: the configuration with the section [site.NAME] of another site laid over it.
// `arguments` are those that parse() was given.
Config parse_for_site(CommandSpec& spec, const std::vector<std::string>& arguments, const std::string& site);

// A resolved configuration from its own text, as --print-config shows it and checkpoints keep it. where: what messages call
// it. Throws Error(usage).
Config config_from_text(const std::string& ini, const std::string& where);

// A subcommand: main() looks them up by name.
struct Command {
  std::string name;
  std::string summary;
  bool internal;  // started by other processes of ours, not by people
  std::function<int(const std::vector<std::string>& arguments)> run;
};
const std::vector<Command>& commands();

}  // namespace spillway::cli
