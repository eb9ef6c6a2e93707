#include "optim/outer.hpp"

#include <cstddef>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::size_t kWorthThreads = std::size_t{1}
                                      << 20;  // fewer elements are done before threads have begun

}  // namespace

void outer_delta(std::span<float> delta, std::span<const float> base, std::span<const float> local) {
  SPILLWAY_CHECK(delta.size() == base.size() && delta.size() == local.size());
#pragma omp parallel for schedule(static) if (delta.size() >= kWorthThreads)
  for (std::size_t i = 0; i < delta.size(); ++i) delta[i] = base[i] - local[i];
}

void outer_step(std::span<float> next, std::span<float> velocity, std::span<const float> base,
                std::span<const float> mean_delta, const OuterSettings& settings) {
  SPILLWAY_CHECK(next.size() == velocity.size() && next.size() == base.size() &&
                 next.size() == mean_delta.size());
  const float rate = settings.learning_rate, momentum = settings.momentum;
#pragma omp parallel for schedule(static) if (next.size() >= kWorthThreads)
  for (std::size_t i = 0; i < next.size(); ++i) {
    const float delta = mean_delta[i];
    velocity[i] = momentum * velocity[i] + delta;
    next[i] = base[i] - rate * (momentum * velocity[i] + delta);
  }
}

void outer_average(std::span<float> next, std::span<float> velocity, std::span<const float> base,
                   std::span<const float> mean_delta) {
  SPILLWAY_CHECK(next.size() == velocity.size() && next.size() == base.size() &&
                 next.size() == mean_delta.size());
#pragma omp parallel for schedule(static) if (next.size() >= kWorthThreads)
  for (std::size_t i = 0; i < next.size(); ++i) next[i] = base[i] - mean_delta[i];
  outer_clear(velocity);
}

void outer_copy(std::span<float> to, std::span<const float> from) {
  SPILLWAY_CHECK(to.size() == from.size());
#pragma omp parallel for schedule(static) if (to.size() >= kWorthThreads)
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i];
}

void outer_clear(std::span<float> values) {
#pragma omp parallel for schedule(static) if (values.size() >= kWorthThreads)
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.0f;
}

}  // namespace spillway
