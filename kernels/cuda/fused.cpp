// Products with an elementwise op behind them: chooses between our own GEMM, which does both at once, and cuBLASLt's
// product followed by the op's own kernel.
#include <array>
#include <cstdio>

#include "kernels/cuda/fused_plans.hpp"
#include "kernels/cuda/gemm_own.hpp"
#include "kernels/cuda/state.hpp"
#include "kernels/cuda/trial.hpp"
#include "kernels/ops.hpp"

namespace spillway {

namespace {

const char* name_of(FusedOp op) {
  switch (op) {
    case FusedOp::relu2_forward:
      return "relu2 forward";
    case FusedOp::relu2_backward:
      return "relu2 backward";
    case FusedOp::rope_qk_norm:
      return "rope and qk norm";
  }
  return "";
}

// Runs one of the two. Both are deterministic, so only a rehearsal that is free to choose by time asks which is faster;
// the trial overwrites the outputs with the values they are about to get.
template <class Own, class Separate>
void run_faster(Cuda& device, const FusedKey& key, bool own_serves, const Own& own,
                const Separate& separate) {
  if (!own_serves) return separate();
  FusedPlans& plans = *device.state().fused_plans;
  const FusedPlan* plan = plans.find(key);
  if (plan == nullptr && device.rehearsing && !device.deterministic) {
    const auto [own_ms, separate_ms] = medians_ms(device, own, separate);
    plan = plans.add(key, {own_ms <= separate_ms, own_ms, separate_ms});
  }
  if (plan == nullptr || plan->own)
    own();
  else
    separate();
}

}  // namespace

std::string FusedPlans::describe() const {
  std::string text;
  for (const auto& [key, plan] : plans_) {
    const double tflop = 2e-12 * key.m * key.n * key.k;
    std::array<char, 200> line{};
    std::snprintf(
        line.data(), line.size(),
        "%s in the product %d x %d x %d: own %.3f ms (%.0f TFLOP/s), cuBLASLt and a kernel %.3f ms\n",
        name_of(key.op), key.m, key.n, key.k, plan.own_ms, tflop / plan.own_ms * 1e3, plan.separate_ms);
    text += line.data();
  }
  return text;
}

void linear_relu2_forward(Cuda& device, bf16* a, const bf16* x, const bf16* W, int rows, int in, int out) {
  run_faster(
      device, {FusedOp::relu2_forward, rows, out, in}, own_gemm_serves(a, x, W, out, in),
      [&] { own_linear_relu2_forward(device, a, x, W, rows, in, out); },
      [&] {
        linear_forward(device, a, x, W, rows, in, out, false);
        relu2_forward(device, a, a, static_cast<std::int64_t>(rows) * out);
      });
}

void linear_relu2_backward(Cuda& device, bf16* dh, const bf16* dy, const bf16* W, const bf16* a, int rows,
                           int in, int out) {
  run_faster(
      device, {FusedOp::relu2_backward, rows, in, out},
      in % 64 == 0 && own_gemm_serves(dh, dy, W, in, out) && own_gemm_serves(dh, a, W, in, out),
      [&] { own_linear_relu2_backward(device, dh, dy, W, a, rows, in, out); },
      [&] {
        linear_backward_input(device, dh, dy, W, rows, in, out, false);
        relu2_backward(device, dh, dh, a, static_cast<std::int64_t>(rows) * in);
      });
}

void qkv_forward(Cuda& device, bf16* qkv, float* rstd, const bf16* x, const bf16* W, const float* cosine,
                 const float* sine, int B, int T, int H, int D) {
  const int rows = B * T, C = H * D;
  run_faster(
      device, {FusedOp::rope_qk_norm, rows, 3 * C, C},
      (D == 64 || D == 128) && own_gemm_serves(qkv, x, W, 3 * C, C),
      [&] { own_qkv_forward(device, qkv, rstd, x, W, cosine, sine, B, T, H, D); },
      [&] {
        linear_forward(device, qkv, x, W, rows, C, 3 * C, false);
        rope_qk_norm_forward(device, qkv, rstd, cosine, sine, B, T, H, D);
      });
}

}  // namespace spillway
