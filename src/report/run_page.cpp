#include "report/run_page.hpp"

#include <fmt/format.h>

#include <cmath>

#include "core/time.hpp"
#include "report/run_parts.hpp"
#include "report/svg.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

using nlohmann::json;

std::string name_of(const json& document) {
  if (document.contains("title")) return document["title"];
  std::string folder = document.at("run").at("folder");
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  return folder.substr(folder.rfind('/') + 1);
}

std::string headline(const json& document) {
  if (document.contains("headline")) return document["headline"];
  const json& run = document.at("run");
  const json& steps = run.at("steps");
  std::string text =
      fmt::format("{}: {} of {} steps", document.at("state").get<std::string>(),
                  steps.at("merged").get<std::int64_t>(), steps.at("target").get<std::int64_t>());
  if (run.at("model").is_object()) {
    const json& model = run["model"];
    text += fmt::format(", a model of {} parameters ({} layers, width {})",
                        readable_count(number(model.at("parameters"))), model.at("layers").get<int>(),
                        model.at("width").get<int>());
  }
  const std::string from = instant(run.at("from_unix_s")), to = instant(run.at("to_unix_s"));
  return text +
         fmt::format("; {} to {} UTC", from, from.substr(0, 10) == to.substr(0, 10) ? to.substr(11) : to);
}

std::string notes(const json& document) {
  std::string text;
  for (const json& note : document.at("notes"))
    text += fmt::format("<p class=\"note\">{}</p>\n", escaped(note.get<std::string>()));
  return text;
}

std::string markdown_table(const Table& table) {
  if (table.rows.empty()) return "";
  std::string text = "|", rule = "|";
  for (const std::string& name : table.header) {
    text += " " + (name.starts_with('#') ? name.substr(1) : name) + " |";
    rule += name.starts_with('#') ? "---:|" : "---|";
  }
  text += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    text += "|";
    for (const std::string& cell : row) text += " " + cell + " |";
    text += "\n";
  }
  return text + "\n";
}

std::string csv_number(const json& value) { return value.is_null() ? "" : value.dump(); }

}  // namespace

std::string run_page(const json& document) {
  const std::string name = name_of(document);
  const std::string header =
      fmt::format("<h1>{}</h1>\n<p class=\"soft\">{}</p>\n", escaped(name), escaped(headline(document)));
  const std::string body =
      html_tiles(headline_tiles(document)) + notes(document) + signals_section(document) +
      learning_section(document) + emissions_section(document) + energy_section(document) +
      speed_section(document) + rounds_section(document) + assumptions_section(document) +
      provenance_section(document) +
      fmt::format(
          "<footer>Made by spillway {} at {} UTC. This page needs no network; hover over bars and dots for "
          "exact values.</footer>\n",
          escaped(document.at("versions").at("spillway").get<std::string>()),
          instant(document.at("made_unix_s")));
  return html_page("Spillway: " + name, header, body);
}

std::string run_markdown(const json& document) {
  std::string text = fmt::format("# {}\n\n{}\n\n", name_of(document), headline(document));
  for (const Tile& tile : headline_tiles(document))
    text += fmt::format("- **{}**: {} ({})\n", tile.name, tile.value, tile.note);
  text += "\n";
  for (const json& note : document.at("notes")) text += "> " + note.get<std::string>() + "\n\n";
  text += "## Sites\n\n" + markdown_table(site_table(document));
  text += "## Energy by phase\n\n" + markdown_table(phase_table(document));
  text += "## Emissions against baselines\n\n" + markdown_table(baseline_table(document));
  text += "## Assumptions\n\n";
  for (const json& line : document.at("assumptions")) text += "- " + line.get<std::string>() + "\n";
  return text;
}

std::string run_csv(const json& document) {
  std::string text = "site,time,step,tokens,tokens_per_s,energy_kwh,emissions_g\n";
  for (const json& site : document.at("sites"))
    for (const json& row : site.at("series"))
      text += fmt::format("{},{},{},{},{},{},{}\n", site.at("name").get<std::string>(),
                          format_utc(row.at("unix_s").get<double>()), csv_number(row.at("step")),
                          csv_number(row.at("tokens")), csv_number(row.at("tokens_per_s")),
                          csv_number(row.at("energy_kwh")), csv_number(row.at("emissions_g")));
  return text;
}

}  // namespace spillway
