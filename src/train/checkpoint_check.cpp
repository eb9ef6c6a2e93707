#include "train/checkpoint_check.hpp"

#include "core/error.hpp"
#include "train/checkpoint_model.hpp"
#include "train/training_state.hpp"

namespace spillway {
namespace {

void require(const CheckpointReader& reader, const std::string& path,
             const std::vector<std::int64_t>& shape) {
  const DatasetInfo& info = reader.info(path);
  if (info.type != "float32")
    fail(ExitCode::bad_data, "{}: dataset {} is {}, expected float32", reader.file().string(), path,
         info.type);
  if (info.shape != shape)
    fail(ExitCode::bad_data, "{}: dataset {} is {} but the model's sizes want {}", reader.file().string(),
         path, shape_text(info.shape), shape_text(shape));
}

// Muon keeps one variance for each row, or for each column where there are more of them.
std::vector<std::int64_t> variance_shape(const Parameter& matrix) {
  const std::int64_t rows = matrix.shape[0], cols = matrix.shape[1];
  return rows >= cols ? std::vector<std::int64_t>{rows, 1} : std::vector<std::int64_t>{1, cols};
}

void require_training_state(const CheckpointReader& reader, const Parameter& parameter) {
  require(reader, "/model/" + parameter.name, parameter.shape);
  if (parameter.group == ParameterGroup::muon) {
    require(reader, "/optimizer/muon/momentum/" + parameter.name, parameter.shape);
    require(reader, "/optimizer/muon/variance/" + parameter.name, variance_shape(parameter));
  } else {
    require(reader, "/optimizer/adamw/m/" + parameter.name, parameter.shape);
    require(reader, "/optimizer/adamw/v/" + parameter.name, parameter.shape);
  }
}

}  // namespace

void require_complete(const CheckpointReader& reader) {
  const Attributes root = reader.attributes("/");
  const auto kind = root.find("kind");
  const bool training = kind != root.end() && kind->second == Attribute(std::string("training"));
  if (!training && (kind == root.end() || kind->second != Attribute(std::string("committed-model"))))
    fail(ExitCode::bad_data, "{}: attribute kind is neither training nor committed-model",
         reader.file().string());
  for (const Parameter& parameter : model_of(reader).layout.parameters) {
    if (training) require_training_state(reader, parameter);
    if (!training || reader.has("/outer")) {
      require(reader, "/outer/base/" + parameter.name, parameter.shape);
      require(reader, "/outer/velocity/" + parameter.name, parameter.shape);
    }
  }
  if (!training) return;
  read_training_record(reader);
  read_energy(reader);
}

}  // namespace spillway
