// What a rank's training takes of its device's memory, known before anything of it is allocated.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/arena.hpp"
#include "model/gpt.hpp"
#include "optim/optimizer.hpp"
#ifdef SPILLWAY_HAVE_CUDA
#include "kernels/cuda/device.hpp"
#endif

namespace spillway {

struct MemoryPlan {
  int micro_batch = 0;           // sequences
  std::vector<MemoryUse> roles;  // what it takes
};

// The plan of micro-batches of `wanted` sequences; for 0, of the largest divisor of `sequences` whose plan fits.
// roles_of(m): what micro-batches of m sequences take. Throws Error(usage) where the plan is larger than available_bytes,
// with its roles and the largest micro-batch that fits.
MemoryPlan choose_micro_batch(int wanted, int sequences, std::int64_t available_bytes,
                              const std::function<std::vector<MemoryUse>(int)>& roles_of);

// "weights 3210, gradients 2140, …: 12345 MiB"
std::string describe_memory(const std::vector<MemoryUse>& roles);

namespace memory_plan_detail {

// What a rank may take: most of its part of the machine's memory, whatever of it is in use at the moment, so that the
// choice is the same every time.
inline std::int64_t available_bytes(const Cpu&, int ranks_on_machine) {
  return static_cast<std::int64_t>(0.9 * static_cast<double>(Cpu::total_bytes()) / ranks_on_machine);
}
inline std::vector<MemoryUse> device_roles(Cpu&, const GptSpec&, int, std::int64_t) { return {}; }

#ifdef SPILLWAY_HAVE_CUDA
// An allowance for what CUDA loads when it is first used: code of kernels, tables of libraries.
inline constexpr std::int64_t kLazilyLoadedBytes = std::int64_t{768} << 20;

inline std::int64_t available_bytes(const Cuda& device, int) {
  return static_cast<std::int64_t>(device.free_bytes()) + static_cast<std::int64_t>(Cuda::kWorkspaceBytes);
}

// left_bytes: where nothing is left without them, cuDNN's graphs, which take a second, are not compiled.
inline std::vector<MemoryUse> device_roles(Cuda& device, const GptSpec& spec, int micro_batch,
                                           std::int64_t left_bytes) {
  std::vector<MemoryUse> roles = {{"workspace of the ops", static_cast<std::int64_t>(Cuda::kWorkspaceBytes)},
                                  {"kernels and libraries", kLazilyLoadedBytes}};
  if (total_bytes(roles) > left_bytes) return roles;
  const std::size_t scratch =
      device.attention_scratch_bytes(micro_batch, spec.sequence, spec.heads, spec.head_dim());
  if (scratch > 0) roles.push_back({"cuDNN attention", static_cast<std::int64_t>(scratch)});
  if (total_bytes(roles) > left_bytes)
    device.release_attention(micro_batch, spec.sequence, spec.heads, spec.head_dim());
  return roles;
}
#endif

}  // namespace memory_plan_detail

// Plans what Parameters, Gpt and Optimizer allocate on `device` and what the device itself takes beside them.
// sequences: of one optimizer step and rank. wanted: sequences per micro-batch, 0: the most that fit.
template <class Dev>
MemoryPlan plan_memory(Dev& device, const GptSpec& spec, const ParameterLayout& layout,
                       const OptimConfig& optim, RankShare share, int wanted, int sequences,
                       int ranks_on_machine) {
  const std::int64_t available = memory_plan_detail::available_bytes(device, ranks_on_machine);
  PlanOnly<Dev> none;
  std::vector<MemoryUse> always = Parameters<PlanOnly<Dev>>(none, layout, true).memory_use();
  for (const MemoryUse& use : Optimizer<PlanOnly<Dev>>(none, layout, optim, 1, share).memory_use())
    always.push_back(use);
  return choose_micro_batch(wanted, sequences, available, [&](int micro_batch) {
    const std::int64_t rows = std::int64_t{micro_batch} * spec.sequence;
    const Activations<PlanOnly<Dev>> activations(none, spec, rows, true, logits_chunk_rows<Dev>(spec, rows));
    std::vector<MemoryUse> roles = always;
    for (const MemoryUse& use : activations.memory_use()) roles.push_back(use);
    if constexpr (kHasFp8<Dev>)
      if (device.fp8)
        for (const MemoryUse& use : Fp8Memory<PlanOnly<Dev>>(none, spec, rows).memory_use())
          roles.push_back(use);
    for (const MemoryUse& use :
         memory_plan_detail::device_roles(device, spec, micro_batch, available - total_bytes(roles)))
      roles.push_back(use);
    return roles;
  });
}

}  // namespace spillway
