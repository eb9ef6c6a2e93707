#include "train/checkpoint_description.hpp"

#include <cmath>
#include <filesystem>

#include "core/error.hpp"
#include "core/time.hpp"
#include "io/checkpoint_folder.hpp"
#include "io/tensor_statistics.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

using nlohmann::json;

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

json to_json(const Attributes& attributes) {
  json object = json::object();
  for (const auto& [name, value] : attributes) {
    if (const auto* integer = std::get_if<std::int64_t>(&value))
      object[name] = *integer;
    else if (const auto* real = std::get_if<double>(&value))
      object[name] = number_or_null(*real);
    else
      object[name] = std::get<std::string>(value);
  }
  return object;
}

json describe_lineage(const std::vector<LineageRow>& lineage) {
  json rows = json::array();
  for (const LineageRow& row : lineage)
    rows.push_back({{"site", row.site},
                    {"started", format_utc(row.started_unix_s)},
                    {"ended", format_utc(row.ended_unix_s)},
                    {"first_step", row.first_step},
                    {"last_step", row.last_step},
                    {"tokens", row.tokens},
                    {"energy_kwh", number_or_null(row.energy_kwh)},
                    {"emissions_g", number_or_null(row.emissions_g)},
                    {"parent_digest", row.parent_digest}});
  return rows;
}

json describe_history(const TrainingRecord& record) {
  json rows = json::array();
  for (const StepRow& row : record.steps)
    rows.push_back({{"step", row.step},
                    {"block", row.block},
                    {"loss_nats", number_or_null(row.loss_nats)},
                    {"gradient_norm", number_or_null(row.gradient_norm)}});
  return rows;
}

void describe_training(const CheckpointReader& reader, const DescriptionParts& parts, json& document) {
  const TrainingRecord record = read_training_record(reader);
  document["loss"] = {{"rows", record.steps.size()}, {"first", nullptr}, {"last", nullptr}};
  if (!record.steps.empty()) {
    document["loss"]["first"] = number_or_null(record.steps.front().loss_nats);
    document["loss"]["last"] = number_or_null(record.steps.back().loss_nats);
  }
  document["validation"] = json::array();
  for (const ValidationRow& row : record.validations)
    document["validation"].push_back({{"step", row.step},
                                      {"loss_nats", number_or_null(row.loss_nats)},
                                      {"bits_per_byte", number_or_null(row.bits_per_byte)}});
  const EnergyLedger energy = read_energy(reader);
  document["energy"] = to_json(reader.attributes("/energy"));
  document["energy"]["energy_kwh"] = number_or_null(energy.energy_kwh());
  document["energy"]["emissions_g"] = number_or_null(energy.emissions_g());
  document["energy"]["inside_kwh"] = energy.inside_kwh();
  document["energy"]["outside_kwh"] = energy.outside_kwh();
  document["energy"]["unknown_kwh"] = energy.unknown_kwh();
  for (std::size_t i = 0; i < kPhases; ++i)
    document["energy"][std::string(kPhaseNames[i]) + "_kwh"] = energy.phase_kwh(static_cast<Phase>(i));
  document["lineage"] = describe_lineage(record.lineage);
  if (parts.history) document["history"] = describe_history(record);
}

json describe_tensor(const CheckpointReader& reader, const DatasetInfo& info, bool statistics) {
  json tensor = {{"name", info.path.substr(1)}, {"shape", info.shape}, {"dtype", info.type}};
  if (!statistics) return tensor;
  const TensorStatistics measured = measure_tensor(reader, info.path);
  tensor["mean"] = number_or_null(measured.mean);
  tensor["std"] = number_or_null(measured.std);
  tensor["min"] = number_or_null(measured.min);
  tensor["max"] = number_or_null(measured.max);
  tensor["norm"] = number_or_null(measured.norm);
  tensor["non_finite"] = measured.non_finite;
  return tensor;
}

// Where the site is in the data: the next block of a run without hub, the blocks of the open round of one with a hub.
json describe_data(const CheckpointReader& reader) {
  json data = json::object();
  if (!reader.has("/outer")) {
    const json progress = to_json(reader.attributes("/progress"));
    if (progress.contains("next_block")) data["next_block"] = progress["next_block"];
    return data;
  }
  data["unmerged_blocks"] = json::array();
  if (!reader.has("/outer/consumed")) return data;
  const auto ranges = reader.read_integers("/outer/consumed");
  for (std::size_t i = 0; i + 1 < ranges.size(); i += 2)
    data["unmerged_blocks"].push_back({ranges[i], ranges[i + 1]});
  return data;
}

}  // namespace

json describe_checkpoint(const CheckpointReader& reader, const DescriptionParts& parts) {
  json document = to_json(reader.attributes("/"));
  document["file"] = reader.file().string();
  document["bytes"] = reader.bytes();
  document["sizes"] = to_json(reader.attributes("/sizes"));
  document["progress"] = to_json(reader.attributes("/progress"));
  document["data"] = describe_data(reader);
  if (reader.has("/outer")) document["outer"] = to_json(reader.attributes("/outer"));
  if (document.value("kind", json()) == "training") describe_training(reader, parts, document);
  document["tensors"] = json::array();
  for (const DatasetInfo& info : reader.datasets())
    if (info.type == "float32") document["tensors"].push_back(describe_tensor(reader, info, parts.tensors));
  if (parts.config) document["config"] = read_config_text(reader);
  return document;
}

CheckpointReader open_checkpoint(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return CheckpointReader(path);
  const auto newest = newest_checkpoint(path);
  if (!newest) fail(ExitCode::bad_data, "{}: there are no checkpoints in this folder", path);
  return CheckpointReader(*newest);
}

}  // namespace spillway
