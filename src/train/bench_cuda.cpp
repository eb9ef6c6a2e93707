#ifdef SPILLWAY_HAVE_CUDA

#include "train/bench_ops.hpp"
#include "train/bench_power.hpp"
#include "train/bench_step.hpp"

namespace spillway {

template <>
void bench_detail::OpBench<Cuda>::compare_attention() {
  const AttentionChoice before = device_.attention;
  device_.attention = AttentionChoice::own;
  attention_passes(" (own)", 0);
  if (Cuda::has_cudnn_attention()) {
    device_.attention = AttentionChoice::cudnn;
    attention_passes(" (cuDNN)", 0);
  }
  device_.attention = before;
}

template Ceilings measure_ceilings(Cuda&);
template std::vector<OpTiming> time_ops(Cuda&, const GptSpec&, int, std::int64_t);
template StepTiming time_step(Cuda&, const GptSpec&, const TrainConfig&, const OptimConfig&, int);
template std::vector<PowerPoint> time_power(Cuda&, const GptSpec&, const TrainConfig&, const OptimConfig&,
                                            const PowerBench&);

template <>
std::string device_plans(Cuda& device) {
  return device.describe_plans();
}
template <>
std::string device_description(Cuda& device) {
  return device.model_name();
}

}  // namespace spillway

#endif
