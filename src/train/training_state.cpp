#include "train/training_state.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "train/checkpoint_v1.hpp"
#include "train/optimizer_tensors.hpp"

namespace spillway {
namespace {

template <class Value>
void write_column(CheckpointWriter& writer, const std::string& path, const std::vector<Value>& values) {
  writer.write(path, {static_cast<std::int64_t>(values.size())}, std::span<const Value>(values));
}

// A column of the rows: column(rows, &Row::member).
template <class Row, class Value>
std::vector<Value> column(const std::vector<Row>& rows, Value Row::*member) {
  std::vector<Value> values;
  for (const Row& row : rows) values.push_back(row.*member);
  return values;
}

template <class Row, class Value>
void fill_column(std::vector<Row>& rows, Value Row::*member, const std::vector<Value>& values,
                 const std::string& where) {
  if (rows.empty()) rows.resize(values.size());
  if (rows.size() != values.size())
    fail(ExitCode::bad_data, "{}: {} rows, the column before has {}", where, values.size(), rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].*member = values[i];
}

void add_flat(std::vector<TensorView>& tensors, const std::string& group, const ParameterLayout& layout,
              const std::vector<float>& flat) {
  for (const Parameter& parameter : layout.parameters)
    tensors.push_back({group + parameter.name, parameter.shape,
                       std::span(flat).subspan(static_cast<std::size_t>(parameter.offset),
                                               static_cast<std::size_t>(parameter.count))});
}

void write_tensors(CheckpointWriter& writer, std::span<const TensorView> tensors) {
  for (const TensorView& tensor : tensors) writer.write(tensor.path, tensor.shape, tensor.values);
}

std::vector<float> read_flat(const CheckpointReader& reader, const std::string& group,
                             const ParameterLayout& layout) {
  std::vector<float> flat(static_cast<std::size_t>(layout.total));
  for (const Parameter& parameter : layout.parameters)
    reader.read(group + parameter.name, parameter.shape,
                std::span(flat).subspan(static_cast<std::size_t>(parameter.offset),
                                        static_cast<std::size_t>(parameter.count)));
  return flat;
}

std::int64_t integer(const CheckpointReader& reader, const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  if (found == attributes.end() || !std::holds_alternative<std::int64_t>(found->second))
    fail(ExitCode::bad_data, "{}: attribute {} is missing or not an integer", reader.file().string(), name);
  return std::get<std::int64_t>(found->second);
}

double real_or_zero(const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  return found != attributes.end() && std::holds_alternative<double>(found->second)
             ? std::get<double>(found->second)
             : 0;
}

std::string text_or_empty(const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  return found != attributes.end() && std::holds_alternative<std::string>(found->second)
             ? std::get<std::string>(found->second)
             : "";
}

void write_history(CheckpointWriter& writer, const TrainingRecord& record) {
  write_column(writer, "/history/step", column(record.steps, &StepRow::step));
  write_column(writer, "/history/block", column(record.steps, &StepRow::block));
  write_column(writer, "/history/loss_nats", column(record.steps, &StepRow::loss_nats));
  write_column(writer, "/history/gradient_norm", column(record.steps, &StepRow::gradient_norm));
  write_column(writer, "/validation/step", column(record.validations, &ValidationRow::step));
  write_column(writer, "/validation/loss_nats", column(record.validations, &ValidationRow::loss_nats));
  write_column(writer, "/validation/bits_per_byte",
               column(record.validations, &ValidationRow::bits_per_byte));
}

void read_history(const CheckpointReader& reader, TrainingRecord& record) {
  const std::string name = reader.file().string();
  fill_column(record.steps, &StepRow::step, reader.read_integers("/history/step"), name + ": /history/step");
  fill_column(record.steps, &StepRow::block, reader.read_integers("/history/block"),
              name + ": /history/block");
  fill_column(record.steps, &StepRow::loss_nats, reader.read_doubles("/history/loss_nats"),
              name + ": /history/loss_nats");
  fill_column(record.steps, &StepRow::gradient_norm, reader.read_doubles("/history/gradient_norm"),
              name + ": /history/gradient_norm");
  fill_column(record.validations, &ValidationRow::step, reader.read_integers("/validation/step"),
              name + ": /validation/step");
  fill_column(record.validations, &ValidationRow::loss_nats, reader.read_doubles("/validation/loss_nats"),
              name + ": /validation/loss_nats");
  fill_column(record.validations, &ValidationRow::bits_per_byte,
              reader.read_doubles("/validation/bits_per_byte"), name + ": /validation/bits_per_byte");
}

// One subgroup per job of the site, all attributes: they depend on the clock, and state datasets must not.
void write_lineage(CheckpointWriter& writer, const std::vector<LineageRow>& lineage) {
  writer.attributes("/lineage", {{"jobs", static_cast<std::int64_t>(lineage.size())}});
  for (std::size_t i = 0; i < lineage.size(); ++i) {
    const LineageRow& row = lineage[i];
    writer.attributes(fmt::format("/lineage/{:06}", i), {{"site", row.site},
                                                         {"started_unix_s", row.started_unix_s},
                                                         {"ended_unix_s", row.ended_unix_s},
                                                         {"first_step", row.first_step},
                                                         {"last_step", row.last_step},
                                                         {"tokens", row.tokens},
                                                         {"energy_kwh", row.energy_kwh},
                                                         {"emissions_g", row.emissions_g},
                                                         {"parent_digest", row.parent_digest}});
  }
}

std::vector<LineageRow> read_lineage(const CheckpointReader& reader) {
  const std::int64_t jobs = integer(reader, reader.attributes("/lineage"), "jobs");
  std::vector<LineageRow> lineage;
  for (std::int64_t i = 0; i < jobs; ++i) {
    const std::string group = fmt::format("/lineage/{:06}", i);
    if (!reader.has(group)) fail(ExitCode::bad_data, "{}: {} is missing", reader.file().string(), group);
    const Attributes values = reader.attributes(group);
    lineage.push_back({text_or_empty(values, "site"), real_or_zero(values, "started_unix_s"),
                       real_or_zero(values, "ended_unix_s"), integer(reader, values, "first_step"),
                       integer(reader, values, "last_step"), integer(reader, values, "tokens"),
                       real_or_zero(values, "energy_kwh"), real_or_zero(values, "emissions_g"),
                       text_or_empty(values, "parent_digest")});
  }
  return lineage;
}

// All but its tensors.
void write_member(CheckpointWriter& writer, const MemberState& member) {
  std::vector<std::int64_t> ranges;
  for (const auto& [first, end] : member.consumed) ranges.insert(ranges.end(), {first, end});
  if (!ranges.empty())
    writer.write("/outer/consumed", {static_cast<std::int64_t>(ranges.size() / 2), 2},
                 std::span<const std::int64_t>(ranges));
  writer.attributes(
      "/outer",
      {{"version", member.model.version}, {"blocks", member.model.blocks}, {"hash", member.model.hash}});
}

MemberState read_member(const CheckpointReader& reader, const ParameterLayout& layout) {
  MemberState member;
  const Attributes values = reader.attributes("/outer");
  member.model = {integer(reader, values, "version"), integer(reader, values, "blocks"),
                  text_or_empty(values, "hash")};
  member.base = read_flat(reader, "/outer/base/", layout);
  member.velocity = read_flat(reader, "/outer/velocity/", layout);
  if (reader.has("/outer/feedback")) member.feedback = read_flat(reader, "/outer/feedback/", layout);
  if (reader.has("/outer/consumed")) {
    const auto ranges = reader.read_integers("/outer/consumed");
    for (std::size_t i = 0; i + 1 < ranges.size(); i += 2)
      member.consumed.emplace_back(ranges[i], ranges[i + 1]);
  }
  return member;
}

void write_common(CheckpointWriter& writer, const char* kind, const Config& config, const RunSetup& setup) {
  writer.attributes("/", {{"kind", std::string(kind)}, {"site", config.site.name}, {"run", setup.digest}});
  // An attribute: paths and the like may differ between runs whose state must be comparable.
  writer.attributes("/config", {{"ini", config.resolved}});
  const GptSpec& spec = setup.spec;
  writer.attributes("/sizes", {{"layers", std::int64_t{spec.layers}},
                               {"width", std::int64_t{spec.width}},
                               {"heads", std::int64_t{spec.heads}},
                               {"vocab", std::int64_t{spec.vocab}},
                               {"sequence", std::int64_t{spec.sequence}},
                               {"scalars", std::int64_t{spec.scalars}},
                               {"parameters", setup.layout.total}});
}

// Shapes say the other sizes; a model with other heads has the same shapes and computes something else.
void require_heads(const CheckpointReader& reader, const RunSetup& setup) {
  const int heads = read_sizes(reader).heads;
  if (heads != setup.spec.heads)
    fail(ExitCode::bad_data,
         "{}: its model has {} heads but the configuration wants {}; set model.heads = {}",
         reader.file().string(), heads, setup.spec.heads, heads);
}

// What the tensors take, and a MiB for the histories and HDF5's own tables.
std::int64_t needed_bytes(std::int64_t floats, std::int64_t history_rows) {
  return floats * static_cast<std::int64_t>(sizeof(float)) +
         history_rows * static_cast<std::int64_t>(sizeof(StepRow)) + (1 << 20);
}

// All but the tensors of training and of the member.
void write_rest(CheckpointWriter& writer, const TrainingState& state, const Config& config,
                const RunSetup& setup) {
  const TrainingRecord& record = state.record;
  write_common(writer, "training", config, setup);
  writer.attributes("/optimizer", {{"updates", state.optimizer_updates}});
  if (state.member) write_member(writer, *state.member);
  const std::int64_t step =
      state.member ? state.member->model.blocks + count_blocks(state.member->consumed) : state.next_block;
  writer.attributes("/progress", {{"step", step},
                                  {"next_block", state.next_block},
                                  {"tokens", record.tokens},
                                  {"skipped_steps", record.skipped},
                                  {"seed", static_cast<std::int64_t>(config.train.seed)},
                                  {"suspends", record.suspends},
                                  {"rounds_solo", record.rounds_solo},
                                  {"rounds_federated", record.rounds_federated},
                                  {"trained_s", record.trained_s}});
  write_history(writer, record);
  write_lineage(writer, record.lineage);
  Attributes energy = {{"source", state.energy_source}};
  for (const auto& [key, value] : state.energy.to_map()) energy[key] = value;
  writer.attributes("/energy", energy);
}

std::int64_t rows_of(const TrainingRecord& record) {
  return static_cast<std::int64_t>(record.steps.size() + record.validations.size());
}

}  // namespace

std::int64_t training_state_bytes(const ParameterLayout& layout, bool federated, std::int64_t history_rows) {
  const std::int64_t floats = layout.total * (federated ? 3 : 1) + optimizer_state_count(layout);
  return needed_bytes(floats, history_rows);
}

Committed write_training_state(const std::filesystem::path& file, const TrainingState& state,
                               const Config& config, const RunSetup& setup) {
  return write_training_state(file, state, state_tensors(state, setup.layout), config, setup);
}

Committed write_training_state(const std::filesystem::path& file, const TrainingState& state,
                               std::span<const TensorView> tensors, const Config& config,
                               const RunSetup& setup) {
  CheckpointWriter writer(
      file, training_state_bytes(setup.layout, state.member.has_value(), rows_of(state.record)));
  write_tensors(writer, tensors);
  if (state.member) write_tensors(writer, member_tensors(*state.member, setup.layout));
  write_rest(writer, state, config, setup);
  return writer.commit();
}

Committed write_training_part(const std::filesystem::path& file, std::span<const TensorView> tensors) {
  std::int64_t floats = 0;
  for (const TensorView& tensor : tensors) floats += static_cast<std::int64_t>(tensor.values.size());
  CheckpointWriter writer(file, needed_bytes(floats, 0), FileKind::part);
  write_tensors(writer, tensors);
  return writer.commit();
}

Committed write_training_master(const std::filesystem::path& file, const TrainingState& state,
                                std::span<const CheckpointReader> parts, const Config& config,
                                const RunSetup& setup) {
  CheckpointWriter writer(file, needed_bytes(0, rows_of(state.record)), FileKind::master);
  for (const CheckpointReader& part : parts) writer.link(part);
  write_rest(writer, state, config, setup);
  return writer.commit();
}

std::vector<TensorView> state_tensors(const TrainingState& state, const ParameterLayout& layout) {
  std::vector<TensorView> tensors;
  add_flat(tensors, "/model/", layout, state.parameters);
  for (const HostTensor& tensor : state.optimizer)
    tensors.push_back({"/" + tensor.name, tensor.shape, tensor.values});
  return tensors;
}

std::vector<TensorView> member_tensors(const MemberState& member, const ParameterLayout& layout) {
  std::vector<TensorView> tensors;
  add_flat(tensors, "/outer/base/", layout, member.base);
  add_flat(tensors, "/outer/velocity/", layout, member.velocity);
  if (!member.feedback.empty()) add_flat(tensors, "/outer/feedback/", layout, member.feedback);
  return tensors;
}

TrainingState read_training_state(const CheckpointReader& reader, const RunSetup& setup) {
  const ParameterLayout& layout = setup.layout;
  TrainingState state;
  state.parameters = read_flat(reader, "/model/", layout);
  require_heads(reader, setup);
  for (const DatasetInfo& info : reader.datasets())
    if (info.path.starts_with("/optimizer/"))
      state.optimizer.push_back({info.path.substr(1), info.shape, reader.read_floats(info.path)});
  state.optimizer_updates = integer(reader, reader.attributes("/optimizer"), "updates");
  if (reader.has("/outer")) state.member = read_member(reader, layout);
  state.next_block = integer(reader, reader.attributes("/progress"), "next_block");
  state.record = read_training_record(reader);
  state.energy = read_energy(reader);
  return state;
}

GptSpec read_sizes(const CheckpointReader& reader) {
  const Attributes sizes = reader.attributes("/sizes");
  const auto size = [&](const char* name) { return static_cast<int>(integer(reader, sizes, name)); };
  return {size("layers"), size("width"),    size("heads"),
          size("vocab"),  size("sequence"), size("scalars") != 0};
}

std::string read_config_text(const CheckpointReader& reader) {
  return text_or_empty(reader.attributes("/config"), "ini");
}

TrainingRecord read_training_record(const CheckpointReader& reader) {
  const Attributes progress = reader.attributes("/progress");
  TrainingRecord record;
  record.tokens = integer(reader, progress, "tokens");
  record.skipped = integer(reader, progress, "skipped_steps");
  record.suspends = integer(reader, progress, "suspends");
  record.rounds_solo = integer(reader, progress, "rounds_solo");
  record.rounds_federated = integer(reader, progress, "rounds_federated");
  record.trained_s = real_or_zero(progress, "trained_s");
  read_history(reader, record);
  record.lineage = read_lineage(reader);
  return record;
}

EnergyLedger read_energy(const CheckpointReader& reader) {
  const Attributes attributes = reader.attributes("/energy");
  if (attributes.count("inside_kwh") != 0) return energy_of_version_1(reader);
  std::map<std::string, std::int64_t> values;
  for (const auto& [key, value] : attributes)
    if (const auto* number = std::get_if<std::int64_t>(&value)) values[key] = *number;
  try {
    return EnergyLedger::from_map(values);
  } catch (const Error& error) {
    fail(ExitCode::bad_data, "{}: /energy: {}", reader.file().string(), error.what());
  }
}

void write_committed_model(const std::filesystem::path& file, const MemberState& state, const Config& config,
                           const RunSetup& setup) {
  CheckpointWriter writer(file, needed_bytes(2 * setup.layout.total, 0));
  write_common(writer, "committed-model", config, setup);
  write_tensors(writer, member_tensors(state, setup.layout));
  write_member(writer, state);
  writer.attributes("/progress", {{"step", state.model.blocks}});
  writer.commit();
}

MemberState read_committed_model(const CheckpointReader& reader, const RunSetup& setup) {
  return read_member(reader, setup.layout);
}

}  // namespace spillway
