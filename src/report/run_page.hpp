// A run's document (train/run_report.hpp) as a page, as Markdown and as CSV. Parts that the document does not have are left
// out; nothing is computed here that the document does not say.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace spillway {

// One self-contained HTML file.
std::string run_page(const nlohmann::json& document);

// The figures and tables, without pictures.
std::string run_markdown(const nlohmann::json& document);

// The sites' energy logs: site,time,step,tokens,tokens_per_s,energy_kwh,emissions_g; unknown values are empty.
std::string run_csv(const nlohmann::json& document);

}  // namespace spillway
