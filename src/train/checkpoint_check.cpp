#include "train/checkpoint_check.hpp"

#include "core/error.hpp"
#include "train/checkpoint_model.hpp"
#include "train/optimizer_tensors.hpp"
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

}  // namespace

void require_complete(const CheckpointReader& reader) {
  const Attributes root = reader.attributes("/");
  const auto kind = root.find("kind");
  const bool training = kind != root.end() && kind->second == Attribute(std::string("training"));
  if (!training && (kind == root.end() || kind->second != Attribute(std::string("committed-model"))))
    fail(ExitCode::bad_data, "{}: attribute kind is neither training nor committed-model",
         reader.file().string());
  const ParameterLayout layout = model_of(reader).layout;
  if (training)
    for (const TensorName& tensor : optimizer_tensors(layout))
      require(reader, "/" + tensor.name, tensor.shape);
  for (const Parameter& parameter : layout.parameters) {
    if (training) require(reader, "/model/" + parameter.name, parameter.shape);
    if (!training || reader.has("/outer")) {
      require(reader, "/outer/base/" + parameter.name, parameter.shape);
      require(reader, "/outer/velocity/" + parameter.name, parameter.shape);
      if (reader.has("/outer/feedback"))
        require(reader, "/outer/feedback/" + parameter.name, parameter.shape);
    }
  }
  if (!training) return;
  read_training_record(reader);
  read_energy(reader);
}

}  // namespace spillway
