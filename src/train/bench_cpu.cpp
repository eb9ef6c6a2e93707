#include <fmt/core.h>
#include <omp.h>

#include "train/bench_ops.hpp"
#include "train/bench_power.hpp"
#include "train/bench_step.hpp"

namespace spillway {

// The CPU has one implementation of each op.
template <>
void bench_detail::OpBench<Cpu>::compare_fused() {}
template <>
void bench_detail::OpBench<Cpu>::compare_attention() {}

template Ceilings measure_ceilings(Cpu&);
template std::vector<OpTiming> time_ops(Cpu&, const GptSpec&, int, std::int64_t);
template StepTiming time_step(Cpu&, const GptSpec&, const TrainConfig&, const OptimConfig&, int);
template std::vector<PowerPoint> time_power(Cpu&, const GptSpec&, const TrainConfig&, const OptimConfig&,
                                            const PowerBench&);

template <>
std::string device_plans(Cpu&) {
  return {};
}
template <>
std::string device_description(Cpu&) {
  return fmt::format("CPU, {} threads", omp_get_max_threads());
}

}  // namespace spillway
