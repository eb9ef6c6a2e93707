#include "train/telemetry.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/sealed_line.hpp"

namespace spillway {
namespace {

using nlohmann::json;

json to_json(const LiveValues& live) {
  json object = {{"open", live.open}, {"gate_unit", live.gate_unit}};
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) object[name] = *value;
  };
  add("gate", live.gate);
  add("emissions", live.emissions);
  add("average", live.average);
  add("excess_mw", live.excess);
  return object;
}

json to_json(const TelemetryLine& line) {
  json object = {{"event", line.event},
                 {"unix_s", line.unix_s},
                 {"phase", kPhaseNames[static_cast<std::size_t>(line.phase)]},
                 {"step", line.step},
                 {"tokens", line.tokens},
                 {"trained_s", line.trained_s},
                 {"energy", line.energy.to_map()}};
  if (line.loss_nats) object["loss_nats"] = *line.loss_nats;
  if (line.bits_per_byte) object["bits_per_byte"] = *line.bits_per_byte;
  if (line.job) object["job"] = *line.job;
  if (line.live) object["live"] = to_json(*line.live);
  if (line.power_cap_w) object["power_cap_w"] = *line.power_cap_w;
  return object;
}

template <class Value>
std::optional<Value> optional_field(const json& object, const char* name) {
  const auto found = object.find(name);
  // Not finite numbers are written as null.
  return found == object.end() || found->is_null() ? std::nullopt : std::optional(found->get<Value>());
}

std::optional<LiveValues> live_from_json(const json& object) {
  const auto found = object.find("live");
  if (found == object.end()) return std::nullopt;
  LiveValues live;
  live.open = found->at("open");
  live.gate_unit = found->at("gate_unit");
  live.gate = optional_field<double>(*found, "gate");
  live.emissions = optional_field<double>(*found, "emissions");
  live.average = optional_field<double>(*found, "average");
  live.excess = optional_field<double>(*found, "excess_mw");
  return live;
}

TelemetryLine from_json(const json& object) {
  TelemetryLine line;
  line.event = object.at("event");
  line.unix_s = object.at("unix_s");
  const auto phase = std::find(kPhaseNames.begin(), kPhaseNames.end(), object.at("phase").get<std::string>());
  if (phase == kPhaseNames.end()) fail(ExitCode::bad_data, "unknown phase {}", object.at("phase").dump());
  line.phase = static_cast<Phase>(phase - kPhaseNames.begin());
  line.step = object.at("step");
  line.tokens = object.at("tokens");
  line.trained_s = object.at("trained_s");
  line.loss_nats = optional_field<double>(object, "loss_nats");
  line.bits_per_byte = optional_field<double>(object, "bits_per_byte");
  line.job = optional_field<std::string>(object, "job");
  line.live = live_from_json(object);
  line.power_cap_w = optional_field<double>(object, "power_cap_w");
  line.energy = EnergyLedger::from_map(object.at("energy"));
  return line;
}

struct Contents {
  std::vector<TelemetryLine> lines;
  std::uintmax_t good_bytes = 0;
  bool torn = false;
};

Contents read_contents(const std::filesystem::path& file) {
  Contents contents;
  std::ifstream stream(file, std::ios::binary);
  std::size_t number = 0;
  for (std::string text; std::getline(stream, text);) {
    ++number;
    const bool whole = !stream.eof();  // it ended with a newline
    const auto inner = whole ? unsealed(text) : std::nullopt;
    if (!inner) {
      if (whole && stream.peek() != std::ifstream::traits_type::eof())
        fail(
            ExitCode::bad_data,
            "{}: line {} does not match its checksum: the energy log is damaged; restore it, or move it away "
            "to count from the newest checkpoint",
            file.string(), number);
      contents.torn = true;
      break;
    }
    try {
      contents.lines.push_back(from_json(json::parse(*inner)));
    } catch (const json::exception& error) {
      fail(ExitCode::bad_data, "{}: line {}: {}", file.string(), number, error.what());
    } catch (const Error& error) {
      fail(ExitCode::bad_data, "{}: line {}: {}", file.string(), number, error.what());
    }
    contents.good_bytes += text.size() + 1;
  }
  return contents;
}

}  // namespace

TelemetryLog::TelemetryLog(std::filesystem::path file, bool fresh) : file_(std::move(file)) {
  if (!fresh) {
    const Contents contents = read_contents(file_);
    if (!contents.lines.empty()) last_energy_ = contents.lines.back().energy;
    if (contents.torn) {
      log_warning("{}: the last line is incomplete, as after a crash: it is cut off", file_.string());
      std::filesystem::resize_file(file_, contents.good_bytes);
    }
  }
  stream_.open(file_, std::ios::binary | (fresh ? std::ios::trunc : std::ios::app));
  if (!stream_) fail(ExitCode::io, "{}: cannot be opened for writing", file_.string());
}

void TelemetryLog::append(const TelemetryLine& line) {
  stream_ << sealed_line(to_json(line).dump()) << std::flush;
  if (!stream_) fail(ExitCode::io, "{}: cannot be written: is the disk full?", file_.string());
}

std::vector<TelemetryLine> TelemetryLog::read(const std::filesystem::path& file) {
  return read_contents(file).lines;
}

}  // namespace spillway
