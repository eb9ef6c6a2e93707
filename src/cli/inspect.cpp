// spillway inspect: what a checkpoint holds.
#include <fmt/format.h>

#include <cmath>
#include <iostream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/json_text.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "report/sparkline.hpp"
#include "train/checkpoint_description.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

using nlohmann::json;

constexpr int kSparklineWidth = 60;

double number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string bytes_text(double bytes) {
  return bytes < 1e9 ? fmt::format("{:.1f} MiB", bytes / (1 << 20))
                     : fmt::format("{:.2f} GiB", bytes / (1 << 30));
}

void line(const char* label, const std::string& text) {
  std::cout << fmt::format("{:<11} {}\n", label, text);
}

// "4.8 → 3.1" and its curve.
void print_curve(const char* label, const json& rows, const char* key, const char* unit) {
  std::vector<double> values;
  for (const json& row : rows) values.push_back(number(row.at(key)));
  if (values.empty()) return;
  line(label, fmt::format("{} → {} {} over {} rows", cell(rows.front().at(key), "{:.4f}"),
                          cell(rows.back().at(key), "{:.4f}"), unit, values.size()));
  line("", sparkline(values, kSparklineWidth));
}

void print_lineage(const json& rows) {
  if (rows.empty()) return;
  std::cout << fmt::format("\n{:>4}  {:<16} {:<20}  {:<20}  {:>15}  {:>11}  {:>9}  {:>10}  {}\n", "job",
                           "site", "started", "ended", "steps", "tokens", "kWh", "g", "resumed from");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const json& row = rows[i];
    const std::string parent = text_of(row.at("parent_digest"));
    std::cout << fmt::format("{:>4}  {:<16} {:<20}  {:<20}  {:>15}  {:>11}  {:>9}  {:>10}  {}\n", i + 1,
                             text_of(row.at("site")), text_of(row.at("started")), text_of(row.at("ended")),
                             fmt::format("{}–{}", row.at("first_step").get<std::int64_t>(),
                                         row.at("last_step").get<std::int64_t>()),
                             row.at("tokens").get<std::int64_t>(), cell(row.at("energy_kwh"), "{:.3f}"),
                             cell(row.at("emissions_g"), "{:.1f}"),
                             parent.empty() ? "fresh start" : parent.substr(0, 12));
  }
}

void print_progress(const json& document) {
  const json& progress = document.at("progress");
  std::string text = fmt::format("step {}", text_of(progress.value("step", json(nullptr))));
  if (progress.contains("tokens"))
    text += fmt::format(", {} tokens at this site, {} suspends, {} skipped steps, {} s in steps",
                        text_of(progress["tokens"]), text_of(progress.value("suspends", json(0))),
                        text_of(progress.value("skipped_steps", json(0))),
                        cell(progress.value("trained_s", json(nullptr)), "{:.1f}"));
  line("progress", text);
  if (progress.contains("rounds_solo"))
    line("merges", fmt::format("{} solo, {} federated", text_of(progress["rounds_solo"]),
                               text_of(progress.value("rounds_federated", json(0)))));
  const json& data = document.at("data");
  if (data.contains("next_block")) line("data", "next block " + text_of(data["next_block"]));
  if (!document.contains("outer")) return;
  const json& outer = document["outer"];
  line("committed",
       fmt::format("model version {}, {} blocks, hash {}", text_of(outer.value("version", json(0))),
                   text_of(outer.value("blocks", json(0))), text_of(outer.value("hash", json("")))));
  std::string ranges;
  for (const json& range : data.value("unmerged_blocks", json::array()))
    ranges += fmt::format(" [{}, {})", range.at(0).get<std::int64_t>(), range.at(1).get<std::int64_t>());
  line("data", ranges.empty() ? "no blocks beyond the committed model" : "blocks not merged yet:" + ranges);
}

void print_energy(const json& energy) {
  const double total = number(energy.at("energy_kwh"));
  const auto share = [&](const char* key) {
    return total > 0 ? 100 * number(energy.value(key, json(nullptr))) / total : 0;
  };
  std::string text =
      fmt::format("{} kWh ({}), {} g CO2, {:.1f} % inside windows", cell(energy.at("energy_kwh"), "{:.4g}"),
                  text_of(energy.value("source", json("unknown source"))),
                  cell(energy.at("emissions_g"), "{:.4g}"), share("inside_kwh"));
  if (share("unknown_kwh") > 0)
    text += fmt::format(", carbon intensity unknown for {:.1f} %", share("unknown_kwh"));
  line("energy", text);
}

void print_all_energy(const json& energy) {
  for (const auto& [name, value] : energy.items())
    std::cout << fmt::format("{:<16} {}\n", name, value.is_string() ? text_of(value) : cell(value, "{:.6g}"));
}

// How many tensors each group has: "model 34, optimizer/adamw/m 4, …".
void print_groups(const json& tensors) {
  std::map<std::string, int> groups;
  double elements = 0;
  for (const json& tensor : tensors) {
    const std::string name = text_of(tensor.at("name"));
    ++groups[name.substr(0, name.rfind('/'))];
    double count = 1;
    for (const json& extent : tensor.at("shape")) count *= number(extent);
    elements += count;
  }
  std::string text;
  for (const auto& [group, count] : groups)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", group, count);
  line("tensors", fmt::format("{} float32, {}: {}", tensors.size(), bytes_text(4 * elements), text));
}

void print_tensors(const json& tensors) {
  std::size_t width = 6;
  for (const json& tensor : tensors) width = std::max(width, text_of(tensor.at("name")).size());
  std::cout << fmt::format("{:<{}}  {:>16}  {:<8} {:>11} {:>11} {:>11} {:>11} {:>11} {:>10}\n", "tensor",
                           width, "shape", "dtype", "mean", "std", "min", "max", "norm", "non-finite");
  for (const json& tensor : tensors) {
    const auto shape = tensor.at("shape").get<std::vector<std::int64_t>>();
    std::cout << fmt::format("{:<{}}  {:>16}  {:<8}", text_of(tensor.at("name")), width, shape_text(shape),
                             text_of(tensor.at("dtype")));
    for (const char* key : {"mean", "std", "min", "max", "norm"})
      std::cout << fmt::format(" {:>11}", cell(tensor.at(key), "{:.4g}"));
    std::cout << fmt::format(" {:>10}\n", tensor.at("non_finite").get<std::int64_t>());
  }
}

void print_history(const json& rows) {
  std::cout << "step,block,loss_nats,gradient_norm\n";
  for (const json& row : rows)
    std::cout << fmt::format("{},{},{},{}\n", row.at("step").get<std::int64_t>(),
                             row.at("block").get<std::int64_t>(), number(row.at("loss_nats")),
                             number(row.at("gradient_norm")));
}

void print_overview(const json& document) {
  const json& sizes = document.at("sizes");
  const auto size = [&](const char* name) { return text_of(sizes.value(name, json(nullptr))); };
  line("file", fmt::format("{} ({}, {}, format {})", text_of(document.at("file")),
                           text_of(document.value("kind", json("unknown kind"))),
                           bytes_text(number(document.at("bytes"))), text_of(document.at("version"))));
  line("site", text_of(document.value("site", json(""))));
  line("digest", text_of(document.at("digest")));
  line("run", text_of(document.value("run", json(""))));
  line("model",
       fmt::format("{} layers, width {}, {} heads, vocabulary {}, sequence {}, scalars {}: {} parameters",
                   size("layers"), size("width"), size("heads"), size("vocab"), size("sequence"),
                   size("scalars") == "0" ? "off" : "on", size("parameters")));
  print_progress(document);
  if (document.contains("history")) print_curve("loss", document["history"], "loss_nats", "nats per token");
  if (document.contains("validation"))
    print_curve("validation", document["validation"], "bits_per_byte", "bits per byte");
  if (document.contains("energy")) print_energy(document["energy"]);
  print_groups(document.at("tensors"));
  if (document.contains("lineage")) print_lineage(document["lineage"]);
}

}  // namespace

int run_inspect(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "inspect";
  spec.summary =
      "Shows what a checkpoint holds. FILE may be a site's folder: then its newest checkpoint. Reads no "
      "tensors unless --tensors asks for their statistics.";
  spec.usage = "spillway inspect FILE [--json] [--tensors] [--history] [--energy] [--config]";
  std::string file;
  bool as_json = false, tensors = false, history = false, energy = false, config_text = false;
  spec.options.add_options()("file", po::value(&file), "the checkpoint; also without --file")(
      "json", po::bool_switch(&as_json), "one JSON document")(
      "tensors", po::bool_switch(&tensors), "every tensor with shape, mean, std, min, max, norm")(
      "history", po::bool_switch(&history), "every step's loss and gradient norm, as CSV")(
      "energy", po::bool_switch(&energy), "the whole energy ledger")(
      "config", po::bool_switch(&config_text), "the configuration it was written with, as INI");
  spec.positional.add("file", 1);
  if (!parse(spec, arguments)) return 0;
  if (file.empty()) fail(ExitCode::usage, "spillway inspect needs a checkpoint; see --help");

  const CheckpointReader reader = open_checkpoint(file);
  const bool overview = !tensors && !history && !energy && !config_text;
  const json document =
      describe_checkpoint(reader, {tensors, history || (overview && !as_json), config_text || as_json});
  if (as_json) {
    std::cout << document.dump(2) << "\n";
    return 0;
  }
  if (overview) print_overview(document);
  if (config_text) std::cout << document.at("config").get<std::string>();
  if (tensors) print_tensors(document.at("tensors"));
  if (energy) print_all_energy(document.value("energy", json::object()));
  if (history) print_history(document.value("history", json::array()));
  return 0;
}

}  // namespace spillway::cli
