// Products with an elementwise op behind them: one after the other, since the caches hold no whole result either way.
#include "kernels/ops.hpp"

namespace spillway {

void linear_relu2_forward(Cpu& cpu, float* a, const float* x, const float* W, int rows, int in, int out) {
  linear_forward(cpu, a, x, W, rows, in, out, false);
  relu2_forward(cpu, a, a, static_cast<std::int64_t>(rows) * out);
}

void linear_relu2_backward(Cpu& cpu, float* dh, const float* dy, const float* W, const float* a, int rows,
                           int in, int out) {
  linear_backward_input(cpu, dh, dy, W, rows, in, out, false);
  relu2_backward(cpu, dh, dh, a, static_cast<std::int64_t>(rows) * in);
}

void qkv_forward(Cpu& cpu, float* qkv, float* rstd, const float* x, const float* W, const float* cosine,
                 const float* sine, int B, int T, int H, int D) {
  linear_forward(cpu, qkv, x, W, B * T, H * D, 3 * H * D, false);
  rope_qk_norm_forward(cpu, qkv, rstd, cosine, sine, B, T, H, D);
}

void attention_rope_backward(Cpu& cpu, float* dqkv, const float* d_o, const float* o, const float* lse,
                             const float* qkv, const float* rstd, const float* cosine, const float* sine,
                             float* workspace, int B, int T, int H, int D) {
  attention_backward(cpu, dqkv, d_o, o, lse, qkv, workspace, B, T, H, D);
  rope_qk_norm_backward(cpu, dqkv, qkv, rstd, cosine, sine, B, T, H, D);
}

}  // namespace spillway
