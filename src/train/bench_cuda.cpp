#ifdef SPILLWAY_HAVE_CUDA

#include "kernels/cuda/gemm_own.hpp"
#include "train/bench_ops.hpp"
#include "train/bench_power.hpp"
#include "train/bench_step.hpp"

namespace spillway {

namespace bench_detail {

template <>
void OpBench<Cuda>::compare_fused() {
  const int C = spec_.width, H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
  const std::int64_t wide = static_cast<std::int64_t>(rows_) * 4 * C;
  const double flop = 2.0 * rows_ * C * C;
  auto& a = memory_;
  if (D == 64 || D == 128)
    timer_.compare(
        "qkv forward + rope qk norm", 3 * flop,
        [&] { own_qkv_forward(device_, a.qkv, a.rstd_qk, a.h, a.weights, a.cosine, a.sine, B_, T, H, D); },
        "cuBLASLt",
        [&] {
          linear_forward(device_, a.qkv, a.h, a.weights, rows_, C, 3 * C, false);
          rope_qk_norm_forward(device_, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D);
        });
  timer_.compare(
      "fc forward + relu2", 4 * flop,
      [&] { own_linear_relu2_forward(device_, a.a, a.h, a.weights, rows_, C, 4 * C); }, "cuBLASLt",
      [&] {
        linear_forward(device_, a.a, a.h, a.weights, rows_, C, 4 * C, false);
        relu2_forward(device_, a.a, a.a, wide);
      });
  timer_.compare(
      "proj dgrad + relu2 backward", 4 * flop,
      [&] { own_linear_relu2_backward(device_, a.da, a.dx, a.weights, a.a, rows_, 4 * C, C); }, "cuBLASLt",
      [&] {
        linear_backward_input(device_, a.da, a.dx, a.weights, rows_, 4 * C, C, false);
        relu2_backward(device_, a.da, a.da, a.a, wide);
      });
}

template <>
void OpBench<Cuda>::compare_attention() {
  const AttentionChoice before = device_.attention;
  const auto by = [this](AttentionChoice choice, const Run& pass) {
    return [this, choice, pass] {
      device_.attention = choice;
      pass();
    };
  };
  const auto compare = [&](const std::string& name, double flop, const Run& pass) {
    if (Cuda::has_cudnn_attention())
      timer_.compare(name, flop, by(AttentionChoice::own, pass), "cuDNN", by(AttentionChoice::cudnn, pass));
    else
      timer_.time(name + " (own)", 0, flop, 0, by(AttentionChoice::own, pass));
  };
  compare("attention forward", attention_flop(), attention_forward_run());
  compare("attention backward", 2.5 * attention_flop(), attention_backward_run());
  if (!fp8_) compare("attention rope backward", 2.5 * attention_flop(), attention_rope_backward_run());
  device_.attention = before;
}

}  // namespace bench_detail

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
