// spillway windows: the windows of a signal.
#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/window_json.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/site_windows.hpp"
#include "energy/text_file.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

void print_csv(const std::vector<Window>& windows) {
  std::cout << "start,end,minutes\n";
  for (const Window& window : windows)
    std::cout << fmt::format("{},{},{}\n", format_utc(window.open_unix_s), format_utc(window.close_unix_s),
                             window.length_s() / 60);
}

void print_json(const Signal& signal, const GateThresholds& thresholds, const std::vector<Window>& windows) {
  auto list = nlohmann::json::array();
  for (const Window& window : windows) list.push_back(window_json(window));
  nlohmann::json document = thresholds_json(thresholds);
  document["region"] = signal.region;
  document["unit"] = signal.unit;
  document["windows"] = list;
  std::cout << document.dump(2) << "\n";
}

void print_table(const Signal& signal, const GateThresholds& thresholds, const std::vector<Window>& windows) {
  std::cout << fmt::format("{}: opens {} {} {}, closes at {} {}\n\n", shown(signal.region),
                           thresholds.above ? "above" : "below", thresholds.open_below, signal.unit,
                           thresholds.close_above, signal.unit);
  std::cout << fmt::format("{:>4}  {:<20}  {:<20}  {:>8}\n", "#", "opens", "closes", "minutes");
  double total_s = 0;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    total_s += windows[i].length_s();
    std::cout << fmt::format("{:>4}  {:<20}  {:<20}  {:>8.4g}\n", i, format_utc(windows[i].open_unix_s),
                             format_utc(windows[i].close_unix_s), windows[i].length_s() / 60);
  }
  const double span_s = signal.end_unix_s() - signal.start_unix_s();
  std::cout << fmt::format("\n{} windows, {:.1f} h open of {:.1f} h ({:.0f} %)\n", windows.size(),
                           total_s / 3600, span_s / 3600, 100 * total_s / span_s);
}

}  // namespace

int run_windows(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "windows";
  spec.summary = "Prints the windows in which a signal lets a site train.";
  spec.usage = "spillway windows --signal FILE --region NAME --open-below X [options]";
  std::string format;
  spec.options.add_options()("format", po::value(&format)->default_value("table"), "table, csv or json");
  spec.aliases = {{"signal", "signal.file"},         {"region", "signal.region"},
                  {"open-below", "gate.open-below"}, {"close-above", "gate.close-above"},
                  {"min-length", "gate.min-length"}, {"grace", "gate.grace"},
                  {"percentile", "gate.percentile"}, {"timezone", "signal.timezone"}};
  spec.sections = {"signal", "gate", "average", "excess", "site"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (format != "table" && format != "csv" && format != "json")
    fail(ExitCode::usage, "--format {}: must be table, csv or json", format);
  if (config->signal.file.empty())
    fail(ExitCode::usage, "--signal FILE is needed; see spillway windows --help");

  const SiteSignals signals = read_site_signals(*config);
  const Signal& signal = signals.gate;
  for (const auto& gap : signal.gaps())
    log_warning("{}: no samples from {} to {}: counted as closed", config->signal.file,
                format_utc(gap.start_unix_s), format_utc(gap.end_unix_s));
  const GateThresholds& thresholds = signals.thresholds;
  const std::vector<Window> windows = site_windows(signals, config->gate.min_length_s);
  if (format == "csv")
    print_csv(windows);
  else if (format == "json")
    print_json(signal, thresholds, windows);
  else
    print_table(signal, thresholds, windows);
  return 0;
}

}  // namespace spillway::cli
