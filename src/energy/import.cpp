#include "energy/import.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/table.hpp"
#include "energy/text_file.hpp"

namespace spillway {
namespace {

struct Sample {
  double time_unix_s = 0;
  std::optional<double> end_unix_s;
  double value = 0;
  std::size_t line = 0;
};

constexpr double kShortestStepS = 1;

double most_frequent_distance(const std::vector<Sample>& samples) {
  std::map<double, std::size_t> counts;
  for (std::size_t i = 1; i < samples.size(); ++i)
    ++counts[samples[i].time_unix_s - samples[i - 1].time_unix_s];
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? 0 : most->first;
}

// Turns stamps into instants, on a clock that may jump.
class Clockwork {
 public:
  Clockwork(const SampleRules& rules, const SignalConfig& config, const std::vector<RawSample>& samples,
            Import* import)
      : rules_(rules), config_(config), import_(import) {
    if (config.ambiguous != "first" && config.ambiguous != "second")
      fail(ExitCode::usage, "signal.ambiguous = '{}': must be first or second", config.ambiguous);
    const std::string name = config.timezone.empty() ? rules.zone : config.timezone;
    if (!name.empty()) zone_.emplace(name);
    const bool naive =
        std::any_of(samples.begin(), samples.end(), [](const auto& s) { return !s.stamp.offset_s; });
    import_->zone = naive ? name : "in the stamps";
    if (zone_)
      for (const RawSample& sample : samples)
        if (!sample.stamp.offset_s) ++times_seen_[sample.stamp.wall_s];
  }

  // Nothing for a stamp that the clock never shows.
  std::optional<double> instant(const Stamp& stamp, std::size_t line) {
    if (stamp.offset_s) return static_cast<double>(stamp.wall_s - *stamp.offset_s) + stamp.fraction_s;
    if (!zone_)
      fail(ExitCode::bad_data,
           "{}: line {}: column {}: '{}' has no time zone; say --signal.timezone UTC, or the zone it is in, "
           "such as Europe/Berlin",
           import_->name, line, rules_.time_column, rules_.cell_hint);
    const std::vector<double> candidates = zone_->instants(stamp.wall_s);
    if (candidates.empty()) {
      note_phantom(stamp);
      return std::nullopt;
    }
    if (candidates.size() == 1) return candidates[0] + stamp.fraction_s;
    const bool doubled = times_seen_[stamp.wall_s] >= 2;
    if (!doubled) note_single(stamp);
    const bool second = doubled ? used_[stamp.wall_s]++ > 0 : config_.ambiguous == "second";
    return candidates[second ? 1 : 0] + stamp.fraction_s;
  }

 private:
  static std::string wall_text(const Stamp& stamp) {
    std::string text = format_utc(static_cast<double>(stamp.wall_s));
    text.pop_back();  // the Z
    return text;
  }
  void note_phantom(const Stamp& stamp) {
    if (import_->phantoms++ == 0)
      import_->warnings.push_back(fmt::format(
          "{} does not exist in {}, the clock skips it: left out (and its kind); if the stamps are on "
          "another clock, say so with --signal.timezone",
          wall_text(stamp), zone_->name()));
  }
  void note_single(const Stamp& stamp) {
    if (!std::exchange(single_noted_, true))
      import_->warnings.push_back(fmt::format(
          "{} comes twice in {} but once in the file: taken as the {} (and its kind); --signal.ambiguous "
          "first|second changes it",
          wall_text(stamp), zone_->name(), config_.ambiguous));
  }

  const SampleRules& rules_;
  const SignalConfig& config_;
  Import* import_;
  std::optional<Zone> zone_;
  std::map<WallSeconds, int> times_seen_, used_;
  bool single_noted_ = false;
};

std::vector<Sample> resolve(const std::vector<RawSample>& raw, const SampleRules& rules,
                            const SignalConfig& config, Import* import) {
  Clockwork clock(rules, config, raw, import);
  std::vector<Sample> samples;
  samples.reserve(raw.size());
  for (const RawSample& sample : raw) {
    auto time = clock.instant(sample.stamp, sample.line);
    if (!time) continue;
    if (sample.since_midnight_s > 0) *time += sample.since_midnight_s;
    Sample resolved{*time, std::nullopt, sample.value, sample.line};
    // The end is a length: on a clock that jumps it needs no choice of its own.
    if (sample.end && sample.end->offset_s == sample.stamp.offset_s) {
      const double length_s = static_cast<double>(sample.end->wall_s - sample.stamp.wall_s);
      if (length_s > 0) resolved.end_unix_s = *time + length_s;
    }
    samples.push_back(resolved);
  }
  return samples;
}

void check_order(std::vector<Sample>* samples, const SampleRules& rules, const Import& import) {
  const auto earlier = [](const Sample& a, const Sample& b) { return a.time_unix_s < b.time_unix_s; };
  if (rules.sort) std::stable_sort(samples->begin(), samples->end(), earlier);
  for (std::size_t i = 1; i < samples->size(); ++i)
    if (earlier((*samples)[i], (*samples)[i - 1]))
      fail(ExitCode::bad_data, "{}: line {}: column {}: {} is before the instant above it; sort the file",
           import.name, (*samples)[i].line, rules.time_column, format_utc((*samples)[i].time_unix_s));
}

// Samples of one instant become one, as config.duplicates says.
std::vector<Sample> merge_doubles(const std::vector<Sample>& samples, const SignalConfig& config,
                                  Import* import) {
  const std::string& policy = config.duplicates;
  if (policy != "first" && policy != "last" && policy != "mean" && policy != "error")
    fail(ExitCode::usage, "signal.duplicates = '{}': must be first, last, mean or error", policy);
  std::vector<Sample> merged;
  double example_unix_s = 0;
  for (std::size_t i = 0; i < samples.size();) {
    Sample kept = samples[i];
    std::size_t end = i + 1;
    double sum = kept.value;
    for (; end < samples.size() && samples[end].time_unix_s == kept.time_unix_s; ++end) {
      if (policy == "error")
        fail(ExitCode::bad_data,
             "{}: line {}: {} for the second time; --signal.duplicates first|last|mean takes one",
             import->name, samples[end].line, format_utc(kept.time_unix_s));
      sum += samples[end].value;
      if (import->doubles++ == 0) example_unix_s = kept.time_unix_s;
    }
    if (policy == "last") kept.value = samples[end - 1].value;
    if (policy == "mean") kept.value = sum / static_cast<double>(end - i);
    merged.push_back(kept);
    i = end;
  }
  if (import->doubles > 0)
    import->warnings.push_back(
        fmt::format("{} samples repeat an instant, the first {}: the {} is taken; --signal.duplicates "
                    "first|last|mean|error changes "
                    "it",
                    import->doubles, format_utc(example_unix_s), policy));
  return merged;
}

// The interval that ends at each stamp: the distance to the sample before, where it is a regular one.
std::vector<double> intervals_before(const std::vector<Sample>& samples, double step_s) {
  const std::size_t count = samples.size();
  std::vector<double> intervals(count, step_s);
  const auto distance = [&](std::size_t i) { return samples[i].time_unix_s - samples[i - 1].time_unix_s; };
  for (std::size_t i = 1; i < count; ++i)
    if ((i > 1 && distance(i) == distance(i - 1)) || (i + 1 < count && distance(i) == distance(i + 1)))
      intervals[i] = distance(i);
  if (count > 1) intervals[0] = intervals[1];
  return intervals;
}

// Zeros between the first and the last sample, where there is none.
std::vector<Sample> fill_zeros(const std::vector<Sample>& samples, double step_s, Import* import) {
  // Hostile files may name instants centuries apart.
  constexpr double kMostSamples = 4e6;
  if ((samples.back().time_unix_s - samples.front().time_unix_s) / step_s > kMostSamples)
    fail(ExitCode::bad_data, "{}: events from {} to {}: too far apart; check the dates", import->name,
         format_utc(samples.front().time_unix_s), format_utc(samples.back().time_unix_s));
  std::vector<Sample> filled;
  for (const Sample& sample : samples) {
    for (; !filled.empty() && filled.back().time_unix_s + step_s < sample.time_unix_s; ++import->filled)
      filled.push_back({filled.back().time_unix_s + step_s, std::nullopt, 0, sample.line});
    filled.push_back(sample);
  }
  import->warnings.push_back(fmt::format(
      "a report of events: {} steps of {:g} min without a row count as 0, from the first event to the last",
      import->filled, step_s / 60));
  return filled;
}

// Whether stamps end intervals: the format says it, the user may overrule it.
bool stamps_end(const SampleRules& rules, const SignalConfig& config) {
  if (config.stamp == "auto") return rules.stamps_end;
  if (config.stamp != "start" && config.stamp != "end")
    fail(ExitCode::usage, "signal.stamp = '{}': must be auto, start or end", config.stamp);
  return config.stamp == "end";
}

}  // namespace

void finish_import(std::vector<RawSample> raw, const SampleRules& rules, const SignalConfig& config,
                   Import* import) {
  std::vector<Sample> samples = resolve(raw, rules, config, import);
  check_order(&samples, rules, *import);
  samples = merge_doubles(samples, config, import);
  if (samples.empty() || (samples.size() < 2 && rules.step_s == 0))
    fail(ExitCode::bad_data, "{}: column {}: {} samples; a signal needs at least two", import->name,
         shown(import->column), samples.size());
  Signal& signal = import->signal;
  signal.step_s = rules.step_s > 0 ? rules.step_s : most_frequent_distance(samples);
  if (signal.step_s < kShortestStepS)
    fail(ExitCode::bad_data, "{}: column {}: samples {} s apart; a signal's steps are a second or more",
         import->name, rules.time_column, signal.step_s);
  if (rules.zero_fill) samples = fill_zeros(samples, signal.step_s, import);
  import->stamps_end = stamps_end(rules, config);
  std::vector<double> steps(samples.size(), signal.step_s);
  if (import->stamps_end) steps = intervals_before(samples, signal.step_s);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].end_unix_s) steps[i] = *samples[i].end_unix_s - samples[i].time_unix_s;
    signal.times_unix_s.push_back(samples[i].time_unix_s - (import->stamps_end ? steps[i] : 0));
    signal.values.push_back(samples[i].value * import->scale);
  }
  if (std::any_of(steps.begin(), steps.end(), [&](double step) { return step != signal.step_s; }))
    signal.steps_s = std::move(steps);
}

Import import_signal(const SignalConfig& config) {
  TextFile file = load_text(config.file);
  Import import;
  import.name = file.name;
  import.packed = file.packed;
  const auto first = file.text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (file.text[first] == '{' || file.text[first] == '['))
    import_json(file.text, config, &import);
  else
    import_table(Table(std::move(file)), config, &import);
  return import;
}

}  // namespace spillway
