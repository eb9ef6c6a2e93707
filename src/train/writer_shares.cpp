#include "train/writer_shares.hpp"

#include <algorithm>

#include "train/optimizer_tensors.hpp"

namespace spillway {
namespace {

struct Tensor {
  std::string path;
  std::int64_t floats;
};

std::vector<Tensor> tensors_of(const ParameterLayout& layout) {
  std::vector<Tensor> tensors;
  for (const Parameter& parameter : layout.parameters)
    tensors.push_back({"/model/" + parameter.name, parameter.count});
  for (const TensorName& tensor : optimizer_tensors(layout))
    tensors.push_back({"/" + tensor.name, element_count(tensor.shape)});
  return tensors;
}

}  // namespace

WriterShares::WriterShares(const ParameterLayout& layout, int writers, int ranks,
                           std::int64_t leader_floats) {
  writers = std::clamp(writers, 1, ranks);
  for (int writer = 0; writer < writers; ++writer)
    ranks_.push_back(static_cast<int>(std::int64_t{writer} * ranks / writers));
  std::vector<Tensor> tensors = tensors_of(layout);
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const Tensor& a, const Tensor& b) { return a.floats > b.floats; });
  std::vector<std::int64_t> load(ranks_.size(), 0);
  load[0] = leader_floats;
  for (const Tensor& tensor : tensors) {
    const auto least = static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    load[least] += tensor.floats;
    rank_of_[tensor.path] = ranks_[least];
    floats_[ranks_[least]] += tensor.floats;
  }
}

int WriterShares::part_of(int rank) const {
  const auto found = std::find(ranks_.begin(), ranks_.end(), rank);
  return found == ranks_.end() ? 0 : static_cast<int>(found - ranks_.begin()) + 1;
}

std::int64_t WriterShares::floats_of(int rank) const {
  const auto found = floats_.find(rank);
  return found == floats_.end() ? 0 : found->second;
}

}  // namespace spillway
