#include "train/delta_watch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "optim/delta.hpp"

namespace spillway {
namespace {

double median(std::deque<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

double step_norm(double norm, std::int64_t blocks) {
  return blocks > 0 ? norm / std::sqrt(static_cast<double>(blocks)) : 0;
}

std::optional<std::string> delta_fault(const DeltaReport& delta, std::int64_t blocks,
                                       const std::deque<double>& merged, double limit) {
  if (!delta.finite) return "it has values that are not finite";
  if (limit <= 0 || blocks <= 0 || merged.size() < kNormsNeeded) return std::nullopt;
  const double usual = median(merged), here = step_norm(delta.norm, blocks);
  if (usual <= 0 || here <= limit * usual) return std::nullopt;
  return fmt::format("its norm is {:.3g} times the running median, the limit is {} (federation.delta-limit)",
                     here / usual, limit);
}

DeltaSummary summarize_deltas(const std::map<std::string, Ready>& ready) {
  DeltaSummary summary{"", nlohmann::json::object(), nlohmann::json::object()};
  std::vector<const std::pair<const std::string, Ready>*> trained;
  for (const auto& entry : ready)
    if (entry.second.tokens > 0) trained.push_back(&entry);
  std::vector<std::string> norms, cosines;
  for (std::size_t i = 0; i < trained.size(); ++i) {
    const auto& [name, report] = *trained[i];
    norms.push_back(fmt::format("{} {:.4g}", name, report.delta.norm));
    summary.sites[name] = {{"norm", report.delta.norm}, {"tensor_norms", report.delta.tensor_norms}};
    for (std::size_t j = i + 1; j < trained.size(); ++j) {
      const auto& [other, other_report] = *trained[j];
      if (report.delta.sketch.size() != other_report.delta.sketch.size()) continue;
      const double cosine = sketch_cosine(report.delta.sketch, other_report.delta.sketch);
      const std::string pair = name + "·" + other;
      summary.cosines[pair] = cosine;
      cosines.push_back(fmt::format("{} {:.2f}", pair, cosine));
    }
  }
  summary.text = fmt::format("delta norms {}", fmt::join(norms, ", "));
  if (!cosines.empty()) summary.text += fmt::format("; cosines {}", fmt::join(cosines, ", "));
  return summary;
}

}  // namespace spillway
