// spillway ls: the checkpoints of a run, and which job made what.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/json_text.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "io/checkpoint_folder.hpp"
#include "train/checkpoint_description.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

using nlohmann::json;

// A folder with checkpoints: its name, how many there are, and what the newest readable one says of itself.
struct SiteFolder {
  std::string name;
  std::size_t files = 0;
  json description;
};

// Damaged files are named on the way.
SiteFolder read_folder(const std::filesystem::path& folder) {
  const auto files = list_checkpoints(folder);
  for (const auto& file : files) {
    try {
      return {folder.filename().string(), files.size(), describe_checkpoint(CheckpointReader(file), {})};
    } catch (const Error& error) {
      log_warning("{}", error.what());
    }
  }
  fail(ExitCode::bad_data, "{}: none of its {} checkpoints can be read", folder.string(), files.size());
}

std::vector<std::filesystem::path> site_folders(const std::filesystem::path& run) {
  if (!list_checkpoints(run).empty()) return {run};
  std::vector<std::filesystem::path> folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run, error))
    if (!list_checkpoints(entry.path()).empty()) folders.push_back(entry.path());
  if (folders.empty()) fail(ExitCode::bad_data, "{}: there are no checkpoints of a run here", run.string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string headline(const SiteFolder& site) {
  const json& progress = site.description.at("progress");
  std::string text = fmt::format("{}  step {}", site.name, text_of(progress.value("step", json(nullptr))));
  if (site.description.contains("energy")) {
    const json& energy = site.description.at("energy");
    text += fmt::format(", {} tokens, {} kWh, {} g CO2", text_of(progress.value("tokens", json(nullptr))),
                        cell(energy.at("energy_kwh"), "{:.3f}"), cell(energy.at("emissions_g"), "{:.1f}"));
  }
  if (site.description.contains("outer"))
    text += ", model version " + text_of(site.description["outer"].value("version", json(nullptr)));
  const std::filesystem::path newest = text_of(site.description.at("file"));
  return text + fmt::format("; {} {}, newest {}", site.files, site.files == 1 ? "file" : "files",
                            newest.filename().string());
}

std::string job_line(const json& row) {
  const std::string parent = text_of(row.at("parent_digest"));
  return fmt::format("{} – {}  steps {}–{}  {} tokens  {} kWh  {}", text_of(row.at("started")),
                     text_of(row.at("ended")), text_of(row.at("first_step")), text_of(row.at("last_step")),
                     text_of(row.at("tokens")), cell(row.at("energy_kwh"), "{:.3f}"),
                     parent.empty() ? "fresh start" : "resumed from " + parent.substr(0, 12));
}

void print_tree(const std::string& run, const std::vector<SiteFolder>& sites) {
  std::cout << run << "\n";
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const bool last_site = i + 1 == sites.size();
    std::cout << (last_site ? "└─ " : "├─ ") << headline(sites[i]) << "\n";
    const json jobs = sites[i].description.value("lineage", json::array());
    for (std::size_t j = 0; j < jobs.size(); ++j)
      std::cout << (last_site ? "   " : "│  ") << (j + 1 == jobs.size() ? "└─ " : "├─ ") << job_line(jobs[j])
                << "\n";
  }
}

}  // namespace

int run_ls(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "ls";
  spec.summary = "Shows the sites of a run with their jobs, from the newest checkpoint of each.";
  spec.usage = "spillway ls FOLDER [--json]";
  std::string run;
  bool as_json = false;
  spec.options.add_options()("folder", po::value(&run), "a run's or a site's folder; also without --folder")(
      "json", po::bool_switch(&as_json), "one JSON document");
  spec.positional.add("folder", 1);
  if (!parse(spec, arguments)) return 0;
  if (run.empty()) fail(ExitCode::usage, "spillway ls needs the folder of a run; see --help");
  std::vector<SiteFolder> sites;
  for (const auto& folder : site_folders(run)) sites.push_back(read_folder(folder));
  if (!as_json) {
    print_tree(run, sites);
    return 0;
  }
  json document = json::object();
  for (const SiteFolder& site : sites) {
    document[site.name] = site.description;
    document[site.name].erase("tensors");
    document[site.name]["files"] = site.files;
  }
  std::cout << document.dump(2) << "\n";
  return 0;
}

}  // namespace spillway::cli
