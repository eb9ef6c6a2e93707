// spillway diff: how two checkpoints differ.
#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/json_text.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "train/checkpoint_description.hpp"
#include "train/checkpoint_difference.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

using nlohmann::json;

void print_pairs(const char* title, const json& pairs) {
  if (pairs.empty()) {
    std::cout << fmt::format("{:<9} the same\n", title);
    return;
  }
  std::cout << title << "\n";
  for (const auto& [key, pair] : pairs.items())
    std::cout << fmt::format("  {:<28} {} → {}\n", key, text_of(pair.at(0)), text_of(pair.at(1)));
}

void print_tensors(const json& rows, int equal) {
  std::cout << fmt::format("tensors   {} the same, {} differ\n", equal, rows.size());
  if (rows.empty()) return;
  std::size_t width = 6;
  for (const json& row : rows) width = std::max(width, text_of(row.at("name")).size());
  std::cout << fmt::format("  {:<{}}  {:>12}  {:>12}\n", "tensor", width, "|a-b| / |a|", "max |a-b|");
  for (const json& row : rows) {
    std::cout << fmt::format("  {:<{}}  ", text_of(row.at("name")), width);
    if (row.contains("only_in"))
      std::cout << "only in " << text_of(row.at("only_in")) << "\n";
    else if (row.contains("unlike"))
      std::cout << text_of(row.at("unlike").at(0)) << " → " << text_of(row.at("unlike").at(1)) << "\n";
    else
      std::cout << fmt::format("{:>12}  {:>12}\n", cell(row.at("relative"), "{:.4g}"),
                               cell(row.at("max_abs"), "{:.4g}"));
  }
}

std::string verdict(const json& result) {
  if (!result.at("identical").get<bool>()) return "different";
  return result.at("checksums") == "trusted"
             ? "identical by the stored checksums; the data were not read (--trust-checksums)"
             : "identical: every dataset is the same";
}

void print_others(const json& names) {
  std::cout << "others    " << (names.empty() ? "the same" : fmt::format("{} differ:", names.size()));
  for (const json& name : names) std::cout << " " << text_of(name);
  std::cout << "\n";
}

}  // namespace

int run_diff(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "diff";
  spec.summary = "Compares two checkpoints: configuration, progress, lineage and every tensor.";
  spec.usage = "spillway diff A B [--trust-checksums] [--json]";
  std::vector<std::string> files;
  bool as_json = false, trusting = false;
  spec.options.add_options()("files", po::value(&files), "two checkpoints or folders; also without --files")(
      "trust-checksums", po::bool_switch(&trusting),
      "do not read what has equal stored checksums: quick, but finds no damage")(
      "json", po::bool_switch(&as_json), "one JSON document");
  spec.positional.add("files", 2);
  if (!parse(spec, arguments)) return 0;
  if (files.size() != 2) fail(ExitCode::usage, "spillway diff needs two checkpoints; see --help");
  const CheckpointReader a = open_checkpoint(files[0]), b = open_checkpoint(files[1]);
  const json result = compare_checkpoints(a, b, trusting ? Checksums::trusted : Checksums::compared);
  if (as_json) {
    std::cout << result.dump(2) << "\n";
    return 0;
  }
  std::cout << fmt::format("a         {}\nb         {}\nstate     {}\nlineage   {}\n",
                           text_of(result.at("a")), text_of(result.at("b")), verdict(result),
                           text_of(result.at("lineage")));
  print_pairs("sizes", result.at("sizes"));
  print_pairs("progress", result.at("progress"));
  print_pairs("config", result.at("config"));
  print_tensors(result.at("tensors"), result.at("tensors_equal").get<int>());
  print_others(result.at("others"));
  return 0;
}

}  // namespace spillway::cli
