// Memory is planned before it is taken.
#include "train/memory_plan.hpp"

#include "tests/catch.hpp"
#include "tests/model/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::int64_t kMiB = 1 << 20;

// 100 MiB in any case and 10 per sequence.
std::vector<MemoryUse> roles_of(int micro_batch) {
  return {{"weights", 100 * kMiB}, {"activations", 10 * kMiB * micro_batch}};
}

std::string refusal_of(int wanted, int sequences, std::int64_t available) {
  return refusal([&] { choose_micro_batch(wanted, sequences, available, roles_of); }, ExitCode::usage);
}

}  // namespace

TEST_CASE("auto takes the largest micro-batch that divides a step and fits") {
  CHECK(choose_micro_batch(0, 96, 2000 * kMiB, roles_of).micro_batch == 96);
  CHECK(choose_micro_batch(0, 96, 500 * kMiB, roles_of).micro_batch == 32);
  CHECK(choose_micro_batch(0, 96, 110 * kMiB, roles_of).micro_batch == 1);
  const MemoryPlan plan = choose_micro_batch(8, 96, 500 * kMiB, roles_of);
  CHECK(plan.micro_batch == 8);
  CHECK(describe_memory(plan.roles) == "weights 100, activations 80: 180 MiB");
}

TEST_CASE("a micro-batch that does not fit is refused with the largest that does") {
  CHECK(refusal_of(48, 96, 500 * kMiB) ==
        "train.micro-batch = 48 needs weights 100, activations 480: 580 MiB of 500 MiB; the largest that "
        "fits is 32");
  CHECK(refusal_of(2, 96, 105 * kMiB) ==
        "train.micro-batch = 2 needs weights 100, activations 20: 120 MiB of 105 MiB; none fits: reduce the "
        "model's "
        "sizes");
  CHECK(refusal_of(0, 96, 105 * kMiB) ==
        "micro-batches of one sequence need weights 100, activations 10: 110 MiB of 105 MiB; reduce the "
        "model's sizes");
}

TEST_CASE("the plan is what is allocated") {
  Cpu device;
  const GptSpec spec = small_spec(true);
  const ParameterLayout layout = make_layout(spec);
  const RankShare share = {1, 3};
  const MemoryPlan plan = plan_memory(device, spec, layout, OptimConfig{}, share, 0, 6, 1);
  CHECK(plan.micro_batch == 6);
  std::vector<MemoryUse> taken = Parameters<Cpu>(device, layout, true).memory_use();
  for (const auto& part : {Optimizer<Cpu>(device, layout, OptimConfig{}, 1, share).memory_use(),
                           Gpt<Cpu>(device, spec, 6, Purpose::train).memory_use()})
    taken.insert(taken.end(), part.begin(), part.end());
  CHECK(describe_memory(plan.roles) == describe_memory(taken));
  CHECK(total_bytes(plan.roles) == total_bytes(taken));
}
