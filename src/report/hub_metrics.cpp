#include "report/hub_metrics.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace spillway {
namespace {

using Samples = std::vector<std::pair<std::string, nlohmann::json>>;  // labels, value

// A family with its help and type; samples that are no numbers are left out.
void add(std::string& text, const char* name, const char* type, const char* help, const Samples& samples) {
  text += fmt::format("# HELP spillway_{} {}\n# TYPE spillway_{} {}\n", name, help, name, type);
  for (const auto& [labels, value] : samples) {
    if (value.is_boolean())
      text += fmt::format("spillway_{}{} {}\n", name, labels, value.get<bool>() ? 1 : 0);
    else if (value.is_number())
      text += fmt::format("spillway_{}{} {}\n", name, labels, value.dump());
  }
}

// Member names have no characters that would need quoting (protocol.cpp, check_name).
std::string label(const char* name, const std::string& value) {
  return fmt::format("{{{}=\"{}\"}}", name, value);
}

Samples of_members(const nlohmann::json& status, const char* key) {
  Samples samples;
  for (const auto& [name, member] : status.at("members").items())
    if (member.contains(key)) samples.emplace_back(label("member", name), member.at(key));
  return samples;
}

Samples of_progress(const nlohmann::json& status, const char* key) {
  Samples samples;
  for (const auto& [name, member] : status.at("members").items())
    if (const auto& progress = member.at("progress"); progress.is_object() && progress.contains(key))
      samples.emplace_back(label("member", name), progress.at(key));
  return samples;
}

void add_round(std::string& text, const nlohmann::json& round) {
  Samples seconds, norms;
  for (const char* phase : {"train", "form", "wait", "exchange", "apply"})
    seconds.emplace_back(label("phase", phase), round.at(std::string(phase) + "_s"));
  for (const auto& [site, work] : round.at("sites").items())
    if (work.contains("norm")) norms.emplace_back(label("member", site), work.at("norm"));
  add(text, "round_seconds", "gauge", "Parts of the newest round.", seconds);
  add(text, "delta_norm", "gauge", "Euclidean norm of each site's delta in the newest round.", norms);
}

}  // namespace

std::string hub_metrics(const nlohmann::json& status, const std::deque<nlohmann::json>& rounds) {
  std::string text;
  add(text, "model_version", "gauge", "Version of the committed model.", {{"", status.at("version")}});
  add(text, "committed_steps", "gauge", "Optimizer steps merged into the committed model.",
      {{"", status.at("blocks")}});
  add(text, "target_steps", "gauge", "Optimizer steps of the whole run.", {{"", status.at("target")}});
  add(text, "free_steps", "gauge", "Steps' worth of data that is neither merged nor leased.",
      {{"", status.at("free_blocks")}});
  add(text, "complete", "gauge", "1 once the run has reached its target.", {{"", status.at("complete")}});
  add(text, "rounds", "gauge", "Committed rounds, of one site alone and of several.",
      {{label("kind", "solo"), status.at("rounds").at("solo")},
       {label("kind", "federated"), status.at("rounds").at("federated")}});
  const auto& epoch = status.at("epoch");
  add(text, "epoch_members", "gauge", "Members of the current epoch, 0 between epochs.",
      {{"", epoch.is_null() ? 0 : epoch.at("members").size()}});
  add(text, "member_window_open", "gauge", "1 while the member's window is open.",
      of_members(status, "open"));
  add(text, "member_in_epoch", "gauge", "1 while the member is in the current epoch.",
      of_members(status, "in_epoch"));
  add(text, "member_version", "gauge", "Version of the model the member holds.",
      of_members(status, "version"));
  add(text, "member_leased_steps", "gauge", "Steps' worth of data leased to the member.",
      of_members(status, "leased_blocks"));
  add(text, "member_refused_deltas", "gauge", "Deltas refused since the member has connected.",
      of_members(status, "refused_deltas"));
  add(text, "site_loss_nats", "gauge", "Newest training loss, nats per token.",
      of_progress(status, "loss_nats"));
  add(text, "site_tokens_per_second", "gauge", "Training throughput.", of_progress(status, "tokens_per_s"));
  add(text, "site_tokens", "gauge", "Tokens the site has trained on.", of_progress(status, "tokens"));
  add(text, "site_energy_kwh", "gauge", "Energy the site has used.", of_progress(status, "energy_kwh"));
  add(text, "site_emissions_g", "gauge", "CO2 the site has emitted, grams.",
      of_progress(status, "emissions_g"));
  add(text, "site_window_left_seconds", "gauge", "Simulated time until the window closes.",
      of_progress(status, "window_left_s"));
  if (!rounds.empty()) add_round(text, rounds.back());
  return text;
}

}  // namespace spillway
