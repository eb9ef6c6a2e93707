// The parts of a run's page; each gives HTML, or nothing where the document has nothing for it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "report/page.hpp"

namespace spillway {

// Values of the document as text; "–" for what is not known.
double number(const nlohmann::json& value);  // NaN for null
std::string instant(const nlohmann::json& unix_s);

std::vector<Tile> headline_tiles(const nlohmann::json& document);
std::string signals_section(const nlohmann::json& document);
std::string learning_section(const nlohmann::json& document);
std::string speed_section(const nlohmann::json& document);
std::string rounds_section(const nlohmann::json& document);
std::string energy_section(const nlohmann::json& document);
std::string emissions_section(const nlohmann::json& document);
std::string assumptions_section(const nlohmann::json& document);
std::string provenance_section(const nlohmann::json& document);

// Tables that the page and the Markdown share: header and rows.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
Table site_table(const nlohmann::json& document);
Table phase_table(const nlohmann::json& document);
Table baseline_table(const nlohmann::json& document);

}  // namespace spillway
