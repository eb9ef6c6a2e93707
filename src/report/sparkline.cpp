#include "report/sparkline.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace spillway {
namespace {

constexpr std::array kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

// NaN where no value is finite.
double finite_mean(std::span<const double> values) {
  double sum = 0;
  int count = 0;
  for (const double value : values)
    if (std::isfinite(value)) {
      sum += value;
      ++count;
    }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::string sparkline(std::span<const double> values, int width) {
  const std::size_t columns = std::min(values.size(), static_cast<std::size_t>(std::max(width, 0)));
  std::vector<double> means;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (std::size_t i = 0; i < columns; ++i) {
    const std::size_t first = i * values.size() / columns, end = (i + 1) * values.size() / columns;
    means.push_back(finite_mean(values.subspan(first, end - first)));
    if (std::isfinite(means.back())) {
      low = std::min(low, means.back());
      high = std::max(high, means.back());
    }
  }
  std::string line;
  for (const double mean : means) {
    if (!std::isfinite(mean)) {
      line += ' ';
      continue;
    }
    const double share = high > low ? (mean - low) / (high - low) : 0;
    line += kBars[std::min(static_cast<std::size_t>(share * kBars.size()), kBars.size() - 1)];
  }
  return line;
}

}  // namespace spillway
