#include "train/memory_plan.hpp"

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway {
namespace {

double mib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

std::string describe_memory(const std::vector<MemoryUse>& roles) {
  std::string text;
  for (const MemoryUse& use : roles)
    text += fmt::format("{}{} {:.0f}", text.empty() ? "" : ", ", use.role, mib(use.bytes));
  return text + fmt::format(": {:.0f} MiB", mib(total_bytes(roles)));
}

MemoryPlan choose_micro_batch(int wanted, int sequences, std::int64_t available_bytes,
                              const std::function<std::vector<MemoryUse>(int)>& roles_of) {
  const auto fits = [&](const MemoryPlan& plan) { return total_bytes(plan.roles) <= available_bytes; };
  const auto largest_below = [&](int limit) {
    MemoryPlan plan;
    for (int micro_batch = limit; micro_batch >= 1; --micro_batch) {
      if (sequences % micro_batch != 0) continue;
      plan = {micro_batch, roles_of(micro_batch)};
      if (fits(plan)) break;
    }
    return plan;
  };
  if (wanted > 0) {
    MemoryPlan plan = {wanted, roles_of(wanted)};
    if (fits(plan)) return plan;
    const MemoryPlan smaller = largest_below(wanted - 1);
    fail(ExitCode::usage, "train.micro-batch = {} needs {} of {:.0f} MiB; {}", wanted,
         describe_memory(plan.roles), mib(available_bytes),
         smaller.micro_batch > 0 && fits(smaller)
             ? fmt::format("the largest that fits is {}", smaller.micro_batch)
             : std::string("none fits: reduce the model's sizes"));
  }
  MemoryPlan plan = largest_below(sequences);
  if (!fits(plan))
    fail(ExitCode::usage, "micro-batches of one sequence need {} of {:.0f} MiB; reduce the model's sizes",
         describe_memory(plan.roles), mib(available_bytes));
  return plan;
}

}  // namespace spillway
