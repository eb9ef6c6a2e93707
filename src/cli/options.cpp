#include "cli/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <numeric>
#include <sstream>

#include "cli/keys.hpp"
#include "core/error.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// Levenshtein distance, to suggest the key that was meant.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

[[noreturn]] void fail_unknown(const std::string& name, const std::string& where,
                               const std::vector<std::string>& known) {
  const auto nearest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
  fail(ExitCode::usage, "{}: unknown key '{}'; did you mean '{}'?", where, name, *nearest);
}

std::vector<std::string> known_names(const CommandSpec& spec, bool command_line) {
  std::vector<std::string> names;
  for (const Key& k : keys()) names.push_back(k.name);
  if (command_line) {
    for (const auto& [alias, target] : spec.aliases) names.push_back(alias);
    for (const auto& option : spec.options.options()) names.push_back(option->long_name());
    names.insert(names.end(), {"config", "help", "print-config"});
  }
  return names;
}

struct Assignment {
  std::string key, value, where;
};

void apply(Config& config, const Assignment& assignment) {
  const Key* target = find_key(assignment.key);
  SPILLWAY_CHECK(target != nullptr);
  try {
    target->set(config, assignment.value);
  } catch (const std::invalid_argument& error) {
    fail(ExitCode::usage, "{}: {} = '{}': expected {}", assignment.where, assignment.key, assignment.value,
         error.what());
  }
}

// "site.<name>.<key>": a value for one site only. Returns {site, key}; the key is one of `site.` or a full name.
std::optional<std::pair<std::string, std::string>> split_site_key(const std::string& name) {
  if (name.rfind("site.", 0) != 0) return std::nullopt;
  const auto dot = name.find('.', 5);
  if (dot == std::string::npos) return std::nullopt;
  const std::string rest = name.substr(dot + 1);
  return std::pair(name.substr(5, dot - 5), rest.find('.') == std::string::npos ? "site." + rest : rest);
}

// where: what messages call the text.
std::vector<Assignment> read_assignments(const CommandSpec& spec, std::istream& stream,
                                         const std::string& where) {
  std::vector<Assignment> result;
  try {
    const auto parsed = po::parse_config_file(stream, po::options_description(), true);
    for (const auto& option : parsed.options) {
      std::string name = option.string_key;
      if (const auto site = split_site_key(name)) name = site->second;
      if (!find_key(name)) fail_unknown(option.string_key, where, known_names(spec, false));
      result.push_back({option.string_key, option.value.empty() ? "" : option.value.back(), where});
    }
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}: {}", where, error.what());
  }
  return result;
}

std::vector<Assignment> read_file(const CommandSpec& spec, const std::string& path) {
  std::ifstream stream(path);
  if (!stream) fail(ExitCode::usage, "--config {}: cannot be read: check the path and its permissions", path);
  return read_assignments(spec, stream, path);
}

std::string to_ini(const Config& config) {
  std::string text, section;
  for (const Key& k : keys()) {
    const std::string value = k.get(config);
    const std::string own = k.section();
    if (own != section) text += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", own);
    section = own;
    text += fmt::format("{}{} = {}\n", value.empty() ? "# " : "", k.name.substr(own.size() + 1), value);
  }
  return text;
}

void print_help(const CommandSpec& spec) {
  std::cout << "usage: " << spec.usage << "\n" << spec.summary << "\n\n" << spec.options;
  if (!spec.sections.empty())
    std::cout << "  --config FILE         configuration file (INI)\n"
                 "  --print-config        print the resolved configuration and exit\n";
  std::cout << "  --help                this text\n";
  if (!spec.aliases.empty()) {
    std::cout << "\nShort names:\n";
    for (const auto& [alias, target] : spec.aliases)
      std::cout << fmt::format("  --{:<20} = --{}\n", alias, target);
  }
  if (spec.sections.empty()) return;
  const Config defaults;
  std::cout << "\nConfiguration keys (in the file under [section]):\n";
  for (const Key& k : keys()) {
    if (std::find(spec.sections.begin(), spec.sections.end(), k.section()) == spec.sections.end()) continue;
    const std::string value = k.get(defaults);
    std::cout << fmt::format("  --{:<30} {}{}\n", k.name, k.help, value.empty() ? "" : " [" + value + "]");
  }
}

// The assignments of file and command line, and the option values of the command itself in `values`.
struct Parsed {
  std::vector<Assignment> file, command_line;
  bool help = false, print_config = false;
};

Parsed collect(CommandSpec& spec, const std::vector<std::string>& arguments, po::variables_map* values) {
  po::options_description all;
  all.add(spec.options);
  all.add_options()("help", "")("print-config", "");
  // spillway inspect reads no configuration, and shows one by an option of that name.
  const bool reads_config = spec.options.find_nothrow("config", false) == nullptr;
  if (reads_config) all.add_options()("config", po::value<std::string>());
  for (const auto& [alias, target] : spec.aliases) all.add_options()(alias.c_str(), po::value<std::string>());
  for (const Key& k : keys()) all.add_options()(k.name.c_str(), po::value<std::string>());
  // Takes what is left over, so that the value of an unknown option does not hide the option's name.
  po::positional_options_description positional = spec.positional;
  positional.add("unexpected", -1);
  Parsed result;
  try {
    const auto style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    auto parsed = po::command_line_parser(arguments)
                      .options(all)
                      .positional(positional)
                      .style(style)
                      .allow_unregistered()
                      .run();
    for (const auto& option : parsed.options)
      if (option.unregistered && option.position_key < 0)
        fail_unknown(option.string_key, "command line", known_names(spec, true));
    for (const auto& option : parsed.options) {
      if (option.string_key.empty() ||
          option.position_key >= static_cast<int>(spec.positional.max_total_count()))
        fail(ExitCode::usage, "unexpected argument '{}'; see spillway {} --help",
             option.value.empty() ? "" : option.value.front(), spec.name);
      const auto alias = spec.aliases.find(option.string_key);
      const std::string name = alias == spec.aliases.end() ? option.string_key : alias->second;
      if (name == "help") result.help = true;
      if (name == "print-config") result.print_config = true;
      if (name == "config" && reads_config)
        for (auto& assignment : read_file(spec, option.value.at(0)))
          result.file.push_back(std::move(assignment));
      if (find_key(name)) result.command_line.push_back({name, option.value.at(0), "command line"});
    }
    if (!result.help) {
      po::store(parsed, *values);
      po::notify(*values);
    }
  } catch (const po::error& error) {
    fail(ExitCode::usage, "spillway {}: {}; see --help", spec.name, error.what());
  }
  return result;
}

Config resolve(const Parsed& parsed, std::optional<std::string> site) {
  Config config;
  for (const auto& assignment : parsed.file)
    if (!split_site_key(assignment.key)) apply(config, assignment);
  if (!site) {
    for (const auto& assignment : parsed.command_line)
      if (assignment.key == "site.name") site = assignment.value;
  }
  if (site) config.site.name = *site;
  for (const auto& assignment : parsed.file) {
    const auto split = split_site_key(assignment.key);
    if (split && split->first == config.site.name)
      apply(config, {split->second, assignment.value, assignment.where});
  }
  for (const auto& assignment : parsed.command_line)
    if (!site || assignment.key != "site.name") apply(config, assignment);
  config.resolved = to_ini(config);
  return config;
}

}  // namespace

std::optional<Config> parse(CommandSpec& spec, const std::vector<std::string>& arguments) {
  po::variables_map values;
  const Parsed parsed = collect(spec, arguments, &values);
  if (parsed.help) {
    print_help(spec);
    return std::nullopt;
  }
  Config config = resolve(parsed, std::nullopt);
  if (parsed.print_config) {
    std::cout << config.resolved;
    return std::nullopt;
  }
  return config;
}

Config parse_for_site(CommandSpec& spec, const std::vector<std::string>& arguments, const std::string& site) {
  po::variables_map values;
  return resolve(collect(spec, arguments, &values), site);
}

Config config_from_text(const std::string& ini, const std::string& where) {
  std::istringstream stream(ini);
  Config config;
  for (const Assignment& assignment : read_assignments({}, stream, where)) apply(config, assignment);
  config.resolved = ini;
  return config;
}

}  // namespace spillway::cli
