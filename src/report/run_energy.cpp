// Rounds, energy, emissions, assumptions and provenance of a run.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "core/time.hpp"
#include "report/charts.hpp"
#include "report/run_parts.hpp"
#include "report/svg.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<const char*, int>, 6> kPhases = {
    {{"startup", 4}, {"solo", 0}, {"federated", 2}, {"checkpoint", 3}, {"drain", 1}, {"idle", 6}}};
constexpr std::array<std::pair<const char*, const char*>, 5> kComponents = {
    {{"gpu", "GPUs (measured)"},
     {"cpu", "CPUs and memory (measured)"},
     {"rest", "rest of the nodes (declared share)"},
     {"node", "nodes (declared power)"},
     {"facility", "building (PUE)"}}};

Bar phase_bar(const std::string& label, const json& energy) {
  Bar bar;
  bar.label = label;
  for (const auto& [name, color] : kPhases)
    bar.parts.push_back({name, number(energy.at("phases").at(name).at("energy_kwh")), color});
  bar.note = readable_energy(number(energy.at("energy_kwh")));
  return bar;
}

std::string phase_chart(const json& document) {
  BarChart chart;
  chart.title = "Energy by phase";
  chart.text = readable_energy;
  for (const json& site : document.at("sites"))
    chart.bars.push_back(phase_bar(site.at("name"), site.at("energy")));
  if (chart.bars.size() > 1) chart.bars.push_back(phase_bar("all", document.at("energy")));
  return responsive(chart);
}

std::string component_chart(const json& document) {
  BarChart chart;
  chart.title = "Energy by what drew it";
  chart.text = readable_energy;
  chart.legend = false;
  int color = 0;
  for (const auto& [key, name] : kComponents) {
    const double kwh = number(document.at("energy").at("components").at(key).at("energy_kwh"));
    const int own = color++;
    if (kwh > 0) chart.bars.push_back({name, {{name, kwh, own}}, readable_energy(kwh), false});
  }
  return chart.bars.empty() ? "" : responsive(chart);
}

std::string declared_table(const json& document) {
  std::vector<std::vector<std::string>> rows;
  for (const json& site : document.at("sites")) {
    const json& declared = site.at("declared");
    if (!declared.is_object()) continue;
    const std::string name = site.at("name");
    if (declared.at("idle_outside").get<bool>())
      rows.push_back({"nodes idle between jobs, " + name, readable_energy(number(declared.at("idle_kwh"))),
                      readable_mass(number(declared.at("idle_g")))});
    if (number(declared.at("embodied_g")) > 0)
      rows.push_back(
          {"embodied in the hardware, " + name, "–", readable_mass(number(declared.at("embodied_g")))});
  }
  const json& network = document.at("network");
  if (number(network.at("kwh")) > 0)
    rows.push_back(
        {fmt::format("traffic between sites, {} at {} kWh/GB", readable_bytes(number(network.at("bytes"))),
                     readable(number(network.at("kwh_per_gb")))),
         readable_energy(number(network.at("kwh"))), "–"});
  if (rows.empty())
    return "<p class=\"soft\">No idle nodes, embodied emissions or network energy are declared for this run "
           "(site.idle-outside, site.embodied, site.network-energy).</p>\n";
  return "<h3>Declared, beside the energy used</h3>\n" + html_table({"line", "#energy", "#CO₂"}, rows);
}

std::string batch_table(const json& document) {
  std::vector<std::vector<std::string>> rows;
  for (const json& site : document.at("sites"))
    for (const json& job : site.at("jobs")) {
      if (!job.at("batch_kwh").is_number()) continue;
      const double own = number(job.at("energy_kwh")), batch = number(job["batch_kwh"]);
      rows.push_back({site.at("name"), job.at("batch_job"), readable_energy(own), readable_energy(batch),
                      fmt::format("{:+.1f} %", 100 * (own / batch - 1))});
    }
  return rows.empty() ? ""
                      : "<h3>Against the batch system's own meter</h3>\n" +
                            html_table({"site", "job", "#spillway", "#batch system", "#difference"}, rows);
}

void add_baselines(BarChart& chart, const json& document, const char* key, const char* title) {
  for (const auto& [site, entry] : document.at("baselines").at(key).items()) {
    Bar bar;
    bar.label = fmt::format("{} {}", site, title);
    const double grams = number(entry.at("emissions_g"));
    if (std::isfinite(grams)) {
      bar.parts.push_back({title, grams, 6});
      bar.note = fmt::format("{}: this run is {}", readable_mass(grams),
                             readable_percent(number(entry.at("ratio"))));
    } else {
      bar.unknown = true;
      bar.note = "not known: the signal or the windows end before";
    }
    chart.bars.push_back(std::move(bar));
  }
}

std::string account_table(const json& document) {
  const json& accounts = document.at("energy").at("accounts");
  std::vector<std::vector<std::string>> rows;
  for (const char* name : {"marginal", "average"}) {
    const json& account = accounts.at(name);
    const double all = number(document.at("energy").at("energy_kwh")),
                 unknown = number(account.at("unknown_kwh"));
    if (unknown >= all)
      rows.push_back({name, "no signal", "–", "–", readable_energy(unknown)});
    else
      rows.push_back({name, readable_mass(number(account.at("emissions_g"))),
                      readable_mass(number(account.at("inside_g"))),
                      readable_mass(number(account.at("outside_g"))),
                      unknown > 0 ? readable_energy(unknown) : "none"});
  }
  return html_table({"intensity", "#CO₂", "#inside windows", "#outside", "#energy of unknown intensity"},
                    rows);
}

std::string timing_text(const json& timing, const char* key) {
  return timing.is_object() && timing.contains(key) ? readable_duration(number(timing.at(key))) : "–";
}

}  // namespace

std::string energy_section(const json& document) {
  std::string text = html_figure("Energy by phase", phase_chart(document));
  if (const std::string parts = component_chart(document); !parts.empty())
    text += html_figure("Energy by what drew it", parts);
  const Table table = site_table(document);
  text += html_table(table.header, table.rows) + declared_table(document) + batch_table(document);
  const double unmetered = number(document.at("energy").at("unmetered_s"));
  if (unmetered > 0)
    text += fmt::format(
        "<p class=\"note\">For {} something drew power that neither a counter nor a declaration tells: "
        "the energy is a lower bound.</p>\n",
        escaped(readable_duration(unmetered)));
  for (const json& site : document.at("sites"))
    if (const json cap = site.value("power_cap", json(nullptr)); cap.is_object())
      text += fmt::format("<p class=\"note\">{}: power cap {}; mean power while training {} W.</p>\n",
                          escaped(site.at("name").get<std::string>()),
                          cap.at("setting").is_number() ? readable(number(cap["setting"])) + " W"
                                                        : fmt::format("the excess power, {} to {} W",
                                                                      readable(number(cap.at("lowest_w"))),
                                                                      readable(number(cap.at("highest_w")))),
                          readable(number(cap.at("mean_power_w"))));
  return html_section("energy", "Energy", "At the sites' meters, PUE included.", text);
}

std::string emissions_section(const json& document) {
  BarChart chart;
  chart.title = "Emissions of this run and of baselines";
  chart.text = readable_mass;
  Bar run;
  run.label = "this run";
  int color = 0;
  for (const json& site : document.at("sites"))
    run.parts.push_back({site.at("name"),
                         number(site.at("energy").at("accounts").at("marginal").at("emissions_g")), color++});
  const json& marginal = document.at("energy").at("accounts").at("marginal");
  run.unknown = number(marginal.at("unknown_kwh")) >= number(document.at("energy").at("energy_kwh"));
  run.note =
      run.unknown ? "not known: no carbon intensity" : readable_mass(number(marginal.at("emissions_g")));
  chart.bars.push_back(std::move(run));
  add_baselines(chart, document, "always_on", "always on");
  add_baselines(chart, document, "wait_awhile", "wait-awhile");
  return html_section(
      "emissions", "Emissions",
      "The same energy, used by one site alone: without pause, or only in its own windows.",
      html_figure("Emissions of this run and of baselines", responsive(chart)) + account_table(document));
}

std::string rounds_section(const json& document) {
  const json& rounds = document.at("rounds");
  if (rounds.empty()) return "";
  LineChart chart;
  chart.title = "Tokens merged by round";
  chart.x = {"UTC", AxisKind::time, number(document.at("run").at("from_unix_s")),
             number(document.at("run").at("to_unix_s"))};
  chart.y = {"tokens merged in a round", AxisKind::count, 0, 0};
  chart.from_zero = true;
  chart.height = 220;
  Curve solo{"one site", {}, 0, CurveStyle::points}, federated{"several sites", {}, 2, CurveStyle::points};
  std::vector<std::vector<std::string>> rows;
  for (const json& round : rounds) {
    const bool alone = round.at("merge") == "adopt";
    (alone ? solo : federated).points.push_back({number(round.at("unix_s")), number(round.at("tokens"))});
    std::string sites;
    double kwh = 0, grams = 0;
    for (const auto& [name, work] : round.at("sites").items()) {
      sites += (sites.empty() ? "" : ", ") + name;
      if (!work.at("energy").is_object()) continue;
      kwh += number(work["energy"].at("energy_kwh"));
      grams += number(work["energy"].at("emissions_g"));
    }
    const json& timing = round.at("timing");
    rows.push_back({std::to_string(round.at("version").get<std::int64_t>()), instant(round.at("unix_s")),
                    sites, round.at("merge"), readable_count(number(round.at("tokens"))),
                    readable_energy(kwh), readable_mass(grams), timing_text(timing, "train_s"),
                    timing_text(timing, "wait_s"), timing_text(timing, "exchange_s"),
                    round.at("hash").get<std::string>().substr(0, 8)});
  }
  for (Curve* curve : {&solo, &federated})
    if (!curve->points.empty()) chart.curves.push_back(*curve);
  return html_section(
      "rounds", "Rounds",
      "Every committed merge. Energy is what the merged sites drew since their merge before.",
      html_figure("Tokens merged by round", responsive(chart)) +
          fmt::format("<details{}><summary>All {} rounds</summary>\n{}</details>\n",
                      rounds.size() <= 12 ? " open" : "", rounds.size(),
                      html_table({"#version", "committed", "sites", "merge", "#tokens", "#energy", "#CO₂",
                                  "#training", "#waiting", "#exchange", "hash"},
                                 rows)));
}

std::string assumptions_section(const json& document) {
  std::string list = "<ul>\n";
  for (const json& line : document.at("assumptions"))
    list += fmt::format("<li>{}</li>\n", escaped(line.get<std::string>()));
  const Table table = baseline_table(document);
  return html_section("assumptions", "Baselines and assumptions", "",
                      html_table(table.header, table.rows) + list + "</ul>\n");
}

std::string provenance_section(const json& document) {
  std::vector<std::vector<std::string>> sources, checkpoints;
  std::string configs;
  for (const json& site : document.at("sites")) {
    const std::string name = site.at("name");
    if (site.at("signal").is_object())
      for (const char* key : {"", "average", "emissions", "excess"})
        if (const json& signal = *key == 0 ? site["signal"] : site["signal"].at(key); signal.is_object())
          sources.push_back({*key == 0 ? name : name + ", " + key, signal.at("source"), signal.at("region"),
                             signal.at("unit"),
                             signal.at("digest").is_string() ? signal["digest"].get<std::string>() : "live"});
    const json& provenance = site.at("provenance");
    if (!provenance.is_object()) continue;
    checkpoints.push_back({name, provenance.at("checkpoint"), provenance.at("digest"), provenance.at("run")});
    configs += fmt::format("<details><summary>Configuration of {}</summary><pre>{}</pre></details>\n",
                           escaped(name), escaped(provenance.at("config").get<std::string>()));
  }
  std::vector<std::vector<std::string>> versions;
  for (const auto& [name, text] : document.at("versions").items()) versions.push_back({name, text});
  std::string text;
  if (!sources.empty())
    text += "<h3>Signals</h3>\n" +
            html_table({"site", "file or provider", "region", "unit", "XXH3-128 of the file"}, sources);
  if (!checkpoints.empty())
    text += "<h3>Checkpoints</h3>\n" + html_table({"site", "newest file", "digest", "run"}, checkpoints);
  text += "<h3>Versions</h3>\n" + html_table({"program", "version"}, versions) + configs;
  return html_section("provenance", "Provenance", "", text);
}

}  // namespace spillway
