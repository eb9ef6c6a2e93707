#include "report/hub_page.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <optional>

#include "core/time.hpp"
#include "report/charts.hpp"
#include "report/page.hpp"
#include "report/units.hpp"

namespace spillway {
namespace {

// What a member reports of itself is for display and may be anything.
std::optional<double> number(const nlohmann::json& from, const char* key) {
  if (!from.is_object() || !from.contains(key) || !from.at(key).is_number()) return std::nullopt;
  return from.at(key).get<double>();
}

template <class Text>
std::string cell(const nlohmann::json& from, const char* key, Text text) {
  const auto value = number(from, key);
  return value ? text(*value) : "–";
}

std::string fixed(double value) { return fmt::format("{:.3f}", value); }

std::string members_table(const nlohmann::json& status) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, member] : status.at("members").items()) {
    const auto& progress = member.at("progress");
    const bool open = member.at("open").get<bool>();
    std::string state = "–";
    if (progress.is_object() && progress.contains("state") && progress.at("state").is_string())
      state = progress.at("state").get<std::string>();
    if (member.at("lagging").get<bool>()) state += ", lagging";
    if (member.at("silent").get<bool>()) state += ", stopped";
    rows.push_back(
        {name, member.at("role").get<std::string>(), state,
         !open ? "closed"
               : cell(progress, "window_left_s",
                      [](double left_s) { return readable_duration(left_s) + " left"; }),
         fmt::format("{}", member.at("version").get<std::int64_t>()), cell(progress, "step", readable),
         cell(progress, "loss_nats", fixed), cell(progress, "tokens_per_s", readable_count),
         cell(progress, "energy_kwh", readable_energy), cell(progress, "emissions_g", readable_mass),
         cell(progress, "intensity_g_per_kwh", readable)});
  }
  return html_table({"member", "role", "state", "window", "#version", "#step", "#loss", "#tokens/s",
                     "#energy", "#CO2", "#g/kWh now"},
                    rows);
}

std::string loss_chart(const std::deque<nlohmann::json>& rounds) {
  std::map<std::string, Curve> curves;
  for (const auto& round : rounds)
    for (const auto& [site, work] : round.at("sites").items()) {
      const auto loss = number(work, "loss_nats");
      if (loss) curves[site].points.push_back({round.at("blocks").get<double>(), *loss});
    }
  LineChart chart;
  chart.title = "Training loss of each site at its merges";
  chart.x = {"steps merged", AxisKind::count};
  chart.y = {"training loss, nats per token", AxisKind::number};
  for (auto& [site, curve] : curves) {
    curve.name = site;
    curve.color = static_cast<int>(chart.curves.size());
    chart.curves.push_back(curve);
  }
  if (chart.curves.empty()) return "<p>No round has been committed since this hub has started.</p>\n";
  return html_figure("Training loss of each site at its merges", responsive(chart));
}

std::string rounds_table(const std::deque<nlohmann::json>& rounds) {
  constexpr std::size_t most = 20;
  std::vector<std::vector<std::string>> rows;
  for (auto round = rounds.rbegin(); round != rounds.rend() && rows.size() < most; ++round) {
    std::vector<std::string> sites, cosines;
    for (const auto& [site, work] : round->at("sites").items())
      sites.push_back(fmt::format("{} {}", site, cell(work, "norm", readable)));
    for (const auto& [pair, cosine] : round->at("cosines").items())
      cosines.push_back(fmt::format("{} {:.2f}", pair, cosine.get<double>()));
    const auto seconds = [&](const char* key) { return cell(*round, key, fixed); };
    rows.push_back({format_utc(round->at("clock_unix_s").get<double>()),
                    fmt::format("{}", round->at("version").get<std::int64_t>()),
                    round->at("merge").get<std::string>(), fmt::format("{}", fmt::join(sites, ", ")),
                    fmt::format("{}", fmt::join(cosines, ", ")), seconds("train_s"), seconds("form_s"),
                    seconds("wait_s"), seconds("exchange_s"), seconds("apply_s")});
  }
  return html_table({"committed", "#version", "merge", "delta norms", "cosines", "#train s", "#form s",
                     "#wait s", "#exchange s", "#apply s"},
                    rows);
}

}  // namespace

std::string hub_page(const nlohmann::json& status, const std::deque<nlohmann::json>& rounds) {
  const double blocks = status.at("blocks").get<double>(), target = status.at("target").get<double>();
  const auto& epoch = status.at("epoch");
  const std::string when = format_utc(status.at("clock_unix_s").get<double>());
  const std::string header = fmt::format("<h1>Spillway hub</h1>\n<p class=\"soft\">{}{}</p>\n", when,
                                         status.at("complete").get<bool>() ? ", the run is complete" : "");
  const std::string body =
      html_tiles(
          {{"merged", readable_percent(blocks / target),
            fmt::format("{} of {} steps", readable_count(blocks), readable_count(target))},
           {"model version", fmt::format("{}", status.at("version").get<std::int64_t>()),
            status.at("hash").get<std::string>().substr(0, 12)},
           {"rounds", fmt::format("{}", status.at("rounds").at("federated").get<std::int64_t>()),
            fmt::format("and {} of one site alone", status.at("rounds").at("solo").get<std::int64_t>())},
           {"epoch", epoch.is_null() ? "none" : epoch.at("state").get<std::string>(),
            epoch.is_null()
                ? "nobody to connect"
                : fmt::format("{}", fmt::join(epoch.at("members").get<std::vector<std::string>>(), ", "))}}) +
      html_section("members", "Sites", "", members_table(status)) +
      html_section("loss", "Loss", "", loss_chart(rounds)) +
      html_section("rounds", "Rounds", "The newest first.", rounds_table(rounds));
  return html_page("Spillway hub", header, body);
}

}  // namespace spillway
