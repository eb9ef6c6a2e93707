// spillway report: a run as one page, or as JSON, CSV or Markdown.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <span>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/versions.hpp"
#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "report/run_page.hpp"
#include "train/run_report.hpp"

namespace po = boost::program_options;

namespace spillway::cli {

namespace {

ReportOptions report_options() {
  ReportOptions options;
  options.read_config = [](const std::string& ini) {
    return config_from_text(ini, "the checkpoint's configuration");
  };
  return options;
}

nlohmann::json report_document(const std::string& folder, const ReportOptions& options) {
  nlohmann::json document = spillway::report_run(folder, options);
  document["versions"] = versions();
  return document;
}

void write_text(const std::string& file, const std::string& text) {
  write_file_atomically(file, {std::as_bytes(std::span(text))});
}

}  // namespace

std::string write_page(const std::string& folder) {
  const std::string file = (std::filesystem::path(folder) / "report.html").string();
  write_text(file, run_page(report_document(folder, report_options())));
  return file;
}

int run_report(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "report";
  spec.summary =
      "Writes what a run did, used and emitted as one HTML page that needs no network. Reads checkpoints, "
      "energy logs and "
      "the hub's journal; works while the run goes on and where sites are missing.";
  spec.usage = "spillway report RUN_DIR [--out FILE] [--format html|json|csv|md]";
  std::string folder, out, format = "html", sacct;
  spec.options.add_options()("dir", po::value(&folder), "the run's folder (run.dir); also without --dir")(
      "out", po::value(&out),
      "file to write, - for standard output; default: report.html in the run's folder, standard "
      "output for the other formats")("format", po::value(&format)->default_value("html"),
                                      "html, json (all that is known), csv (energy logs), md (tables)")(
      "sacct", po::value(&sacct),
      "compare with Slurm's meter: the output of sacct -P -o JobIDRaw,ConsumedEnergyRaw");
  spec.positional.add("dir", 1);
  if (!parse(spec, arguments)) return 0;
  if (folder.empty()) fail(ExitCode::usage, "spillway report needs the folder of a run; see --help");
  if (format != "html" && format != "json" && format != "csv" && format != "md")
    fail(ExitCode::usage, "--format {}: must be html, json, csv or md", format);

  ReportOptions options = report_options();
  if (!sacct.empty()) options.batch_joules = read_batch_energy(sacct);
  const nlohmann::json document = report_document(folder, options);
  const std::string text = format == "html"   ? run_page(document)
                           : format == "json" ? document.dump(2) + "\n"
                           : format == "csv"  ? run_csv(document)
                                              : run_markdown(document);
  if (out.empty()) out = format == "html" ? (std::filesystem::path(folder) / "report.html").string() : "-";
  if (out == "-") {
    std::cout << text;
    return 0;
  }
  write_text(out, text);
  std::cout << "report: " << out << "\n";
  return 0;
}

}  // namespace spillway::cli
