// spillway signal: what a signal file says, and the same in the canonical layout.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/signal_csv.hpp"
#include "core/atomic_file.hpp"
#include "core/error.hpp"
#include "core/hash.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "energy/formats.hpp"
#include "energy/import.hpp"
#include "energy/provider.hpp"
#include "energy/text_file.hpp"
#include "report/sparkline.hpp"

namespace po = boost::program_options;

namespace spillway::cli {
namespace {

// The signal's shape over its span; blank where it is unknown.
std::string shape(const Signal& signal) {
  constexpr int kWidth = 72, kPerColumn = 16;
  const double step_s = (signal.end_unix_s() - signal.start_unix_s()) / (kWidth * kPerColumn);
  std::vector<double> values;
  for (int i = 0; i < kWidth * kPerColumn; ++i)
    values.push_back(signal.value_at(signal.start_unix_s() + (i + 0.5) * step_s)
                         .value_or(std::numeric_limits<double>::quiet_NaN()));
  return sparkline(values, kWidth);
}

std::string unit_text(const Import& import) {
  const std::string& unit = import.signal.unit;
  return import.written_unit == unit
             ? unit
             : fmt::format("{} (from {}, × {:g})", unit, import.written_unit, import.scale);
}

double gap_hours(const Signal& signal) {
  double seconds = 0;
  for (const auto& gap : signal.gaps()) seconds += gap.end_unix_s - gap.start_unix_s;
  return seconds / 3600;
}

void print_info(const Import& import) {
  const Signal& signal = import.signal;
  const auto line = [](const char* key, const std::string& value) {
    std::cout << fmt::format("{:<9} {}\n", key, value);
  };
  line("file", import.packed.empty() ? import.name : fmt::format("{} ({})", import.name, import.packed));
  line("format", fmt::format("{} ({})", import.format, import.kind));
  line("region", import.regions.size() > 1
                     ? fmt::format("{}, of {}", shown(signal.region), listed(import.regions))
                     : shown(signal.region));
  line("column", import.columns.size() > 1 && import.columns != import.regions
                     ? fmt::format("{}, of {}", shown(import.column), listed(import.columns))
                     : shown(import.column));
  line("unit", unit_text(import));
  line("zone", import.zone);
  line("stamps", import.stamps_end ? "ends of intervals" : "starts of intervals");
  line("step", format_duration(signal.step_s) + (signal.steps_s.empty() ? "" : ", but not everywhere"));
  line("span",
       fmt::format("{} to {} ({:.1f} days)", format_utc(signal.start_unix_s()),
                   format_utc(signal.end_unix_s()), (signal.end_unix_s() - signal.start_unix_s()) / 86400));
  line("samples", fmt::format("{} of {} rows; {} blank, {} doubled, {} on skipped hours, {} filled with 0",
                              signal.values.size(), import.rows, import.blanks, import.doubles,
                              import.phantoms, import.filled));
  line("gaps", fmt::format("{}, {:.1f} h in all", signal.gaps().size(), gap_hours(signal)));
  std::string percentiles;
  for (const int p : {0, 5, 25, 50, 75, 95, 100})
    percentiles += fmt::format("p{} {:.6g}  ", p, percentile(signal, p));
  line("values", percentiles);
  line("shape", shape(signal));
  for (const std::string& warning : import.warnings) line("warning", warning);
}

void print_info_json(const Import& import) {
  const Signal& signal = import.signal;
  auto percentiles = nlohmann::json::object();
  for (const int p : {0, 5, 25, 50, 75, 95, 100}) percentiles[std::to_string(p)] = percentile(signal, p);
  auto gaps = nlohmann::json::array();
  for (const auto& gap : signal.gaps())
    gaps.push_back({{"start", format_utc(gap.start_unix_s)}, {"end", format_utc(gap.end_unix_s)}});
  const nlohmann::json document = {{"file", import.name},
                                   {"format", import.format},
                                   {"kind", import.kind},
                                   {"region", signal.region},
                                   {"regions", import.regions},
                                   {"column", import.column},
                                   {"columns", import.columns},
                                   {"unit", signal.unit},
                                   {"written_unit", import.written_unit},
                                   {"scale", import.scale},
                                   {"zone", import.zone},
                                   {"stamps_end", import.stamps_end},
                                   {"step_s", signal.step_s},
                                   {"start", format_utc(signal.start_unix_s())},
                                   {"end", format_utc(signal.end_unix_s())},
                                   {"rows", import.rows},
                                   {"samples", signal.values.size()},
                                   {"blanks", import.blanks},
                                   {"doubles", import.doubles},
                                   {"phantoms", import.phantoms},
                                   {"filled", import.filled},
                                   {"gaps", gaps},
                                   {"percentiles", percentiles},
                                   {"warnings", import.warnings}};
  std::cout << document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

void print_formats() {
  for (const FormatName& format : table_formats())
    std::cout << fmt::format("{:<24} {}\n", format.name, format.about);
  std::cout << "\nBodies of the WattTime v3, Electricity Maps v3 and UK Carbon Intensity APIs (JSON) are "
               "recognized "
               "too.\nAny file may be packed with gzip, or alone in a zip.\n";
}

// What a provider says of [from, to) or of the future.
Signal fetch(const SignalConfig& config, const std::string& what, const std::string& from,
             const std::string& to) {
  if (what != "history" && what != "forecast")
    fail(ExitCode::usage, "--what {}: must be history or forecast", what);
  const auto provider = make_provider(config, {});
  if (what == "forecast") return provider->forecast();
  const auto start = parse_utc(from), end = parse_utc(to);
  if (!start || !end)
    fail(ExitCode::usage, "spillway signal fetch: --from '{}' --to '{}': expected ISO 8601 instants", from,
         to);
  return provider->history(*start, *end);
}

}  // namespace

int run_signal(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "signal";
  spec.summary =
      "Shows what was understood of a signal file; writes it, or what a provider says, in the canonical "
      "layout.";
  spec.usage =
      "spillway signal info|convert FILE [options]\n       spillway signal formats\n"
      "       spillway signal fetch --provider NAME --region R --from INSTANT --to INSTANT [options]";
  std::string action, file, format, output, from, to, what;
  spec.options.add_options()("action", po::value(&action)->default_value(""),
                             "info, convert, formats or fetch")(
      "format", po::value(&format)->default_value("text"), "of info: text or json")(
      "output", po::value(&output)->default_value(""),
      "of convert and fetch: file to write; default: standard output")(
      "from", po::value(&from)->default_value(""), "of fetch: first instant, ISO 8601")(
      "to", po::value(&to)->default_value(""), "of fetch: the instant after the last")(
      "what", po::value(&what)->default_value("history"), "of fetch: history or forecast");
  spec.positional.add("action", 1).add("signal", 1);
  spec.aliases = {{"signal", "signal.file"},       {"provider", "signal.provider"},
                  {"key-file", "signal.key-file"}, {"key-env", "signal.key-env"},
                  {"region", "signal.region"},     {"timezone", "signal.timezone"},
                  {"unit", "signal.unit"},         {"column", "signal.column"}};
  spec.sections = {"signal"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  if (action == "formats") {
    print_formats();
    return 0;
  }
  if (action != "info" && action != "convert" && action != "fetch")
    fail(ExitCode::usage, "spillway signal '{}': must be info, convert, formats or fetch", action);
  if (action != "fetch" && config->signal.file.empty())
    fail(ExitCode::usage, "spillway signal {}: FILE is needed", action);
  if (format != "text" && format != "json")
    fail(ExitCode::usage, "--format {}: must be text or json", format);
  if (action == "info") {
    const Import import = import_signal(config->signal);
    format == "json" ? print_info_json(import) : print_info(import);
    return 0;
  }
  const std::string text =
      canonical_csv(action == "fetch" ? fetch(config->signal, what, from, to) : read_signal(config->signal));
  if (output.empty())
    std::cout << text;
  else
    write_file_atomically(output, {bytes_of(text)});
  return 0;
}

}  // namespace spillway::cli
