#include "optim/division.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements: 256 bytes of fp32, what vectorized kernels ask for

// `units` pieces of `size` elements from `begin` on, in equal numbers to all ranks. limit: where the parameter ends.
void share_out(std::vector<OwnedPart>& parts, std::int64_t begin, std::int64_t units, std::int64_t size,
               std::int64_t limit, int ranks) {
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t first = begin + units * rank / ranks * size;
    const std::int64_t end = std::min(limit, begin + units * (rank + 1) / ranks * size);
    if (first < end) parts.push_back({first, end, rank});
  }
}

}  // namespace

std::vector<OwnedPart> divide_parameters(const ParameterLayout& layout, int ranks) {
  SPILLWAY_CHECK(ranks >= 1);
  std::vector<OwnedPart> parts;
  for (const Parameter& parameter : layout.parameters) {
    const std::int64_t end = parameter.offset + parameter.count;
    switch (parameter.group) {
      case ParameterGroup::wte:
      case ParameterGroup::lm_head:
        share_out(parts, parameter.offset, (parameter.count + kAlignment - 1) / kAlignment, kAlignment, end,
                  ranks);
        break;
      case ParameterGroup::lambda_r:
      case ParameterGroup::lambda_0:
        parts.push_back({parameter.offset, end, 0});
        break;
      case ParameterGroup::muon:
        break;
    }
  }
  for (const MatrixBatch& batch : layout.batches) {
    const std::int64_t matrix = static_cast<std::int64_t>(batch.rows) * batch.cols;
    share_out(parts, batch.offset, batch.count, matrix, batch.offset + batch.count * matrix, ranks);
  }
  std::sort(parts.begin(), parts.end(),
            [](const OwnedPart& a, const OwnedPart& b) { return a.begin < b.begin; });
  return parts;
}

}  // namespace spillway
