#include "io/tensor_statistics.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace spillway {

TensorStatistics measure_tensor(const CheckpointReader& reader, const std::string& path) {
  if (reader.info(path).type != "float32")
    fail(ExitCode::bad_data, "{}: dataset {} is not float32", reader.file().string(), path);
  TensorStatistics result;
  double sum = 0, squares = 0;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  DatasetStream pieces = reader.stream(path);
  for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    for (const float element : as_floats(piece)) {
      const double value = element;
      ++result.count;
      if (!std::isfinite(value)) {
        ++result.non_finite;
        continue;
      }
      sum += value;
      squares += value * value;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const auto finite = static_cast<double>(result.count - result.non_finite);
  if (finite == 0) return result;
  result.mean = sum / finite;
  result.std = std::sqrt(std::max(squares / finite - result.mean * result.mean, 0.0));
  result.min = low;
  result.max = high;
  result.norm = std::sqrt(squares);
  return result;
}

}  // namespace spillway
