// THE seam between model and hardware: each op once, with shapes and formula, overloaded on the device that runs it.
//
// Conventions: row vectors; a weight W is (out, in), y = x·Wᵀ. B sequences of T tokens are rows = B·T rows of C = H·D
// channels. Outputs come first, sizes last. `act` below is Dev::Activation: float on the CPU, bf16 on CUDA.
// Gradients named d<name>. "+=" means that the op accumulates, "=" that it overwrites whatever was there.
// Pointers are device pointers; nothing here waits for the device. Formulas: see "The model" in the README.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu/device.hpp"
#include "kernels/types.hpp"

namespace spillway {

struct Cuda;  // kernels/cuda/device.hpp

inline constexpr float kNormEpsilon = 1.1920929e-7f;  // FLT_EPSILON
inline constexpr float kLogitSoftcap = 15.0f;
inline constexpr float kRopeBase = 10000.0f;

// Declares one op for both devices. In the parameter list `act` stands for Dev::Activation.
#define SPILLWAY_OP(name, ...)                      \
  namespace op_detail {                             \
  template <class Dev, class act>                   \
  using name##_signature = void(Dev&, __VA_ARGS__); \
  }                                                 \
  op_detail::name##_signature<Cpu, float> name;     \
  op_detail::name##_signature<Cuda, bf16> name

// --- Embedding ---
// x[r,:] = norm(wte[tokens[r],:]),  norm(v) = v·rstd,  rstd = 1/sqrt(mean(v²) + eps)
// x: (rows, C)  rstd: (rows)  wte: (V, C)  tokens: (rows) in [0, V)
SPILLWAY_OP(embedding_norm_forward, act* x, float* rstd, const std::int32_t* tokens, const act* wte, int rows,
            int C);

// g = dx + dx0, or dx where dx0 is null ;
// dwte[tokens[r],:] += rstd[r]·(g[r,:] − x[r,:]·mean(g[r,:]·x[r,:])), rows with one token summed in a fixed order.
// dwte: (V, C) float  dx, dx0, x: (rows, C)  order: (rows), the rows in order of their tokens, as order_by_token gives them
SPILLWAY_OP(embedding_norm_backward, float* dwte, const act* dx, const act* dx0, const act* x,
            const float* rstd, const std::int32_t* tokens, const std::int32_t* order, int rows, int C);

// Host memory. Row numbers by ascending token, those of one token ascending. tokens in [0, V); order: as many.
void order_by_token(std::span<std::int32_t> order, std::span<const std::int32_t> tokens, int V);

// --- Residual stream and RMS norm ---
// x[r,:] = λr·x[r,:] + λ0·x0[r,:] in place, then h = norm(x). Null lambdas: x stays (λr = 1, λ0 = 0).
// x, x0, h: (rows, C)  rstd: (rows)  lambda_r, lambda_0: one float each, on the device
SPILLWAY_OP(mix_norm_forward, act* h, float* rstd, act* x, const act* x0, const float* lambda_r,
            const float* lambda_0, int rows, int C);

// Backward of both steps, from h and rstd alone:
//   g = dx + rstd·(dh − h·mean(dh·h))                       gradient at the mixed stream λr·x + λ0·x0
//   dλ0 += <g, x0> ;  dλr += (<g, h/rstd> − λ0·<g, x0>)/λr  (all rows) ;  dx0 += λ0·g ;  dx = λr·g  (in place)
// Null lambdas: dx = g and x0, dx0, dλ are not touched. workspace: mix_norm_workspace(rows) floats.
SPILLWAY_OP(mix_norm_backward, act* dx, act* dx0, float* dlambda_r, float* dlambda_0, const act* dh,
            const act* h, const float* rstd, const act* x0, const float* lambda_r, const float* lambda_0,
            float* workspace, int rows, int C);
inline std::int64_t mix_norm_workspace(int rows) { return 2 * static_cast<std::int64_t>(rows); }

// --- Linear layers ---
// y = x·Wᵀ, or y += x·Wᵀ.   y: (rows, out)  x: (rows, in)  W: (out, in)
SPILLWAY_OP(linear_forward, act* y, const act* x, const act* W, int rows, int in, int out, bool accumulate);
// dx = dy·W, or dx += dy·W.
SPILLWAY_OP(linear_backward_input, act* dx, const act* dy, const act* W, int rows, int in, int out,
            bool accumulate);
// dW = dyᵀ·x, or dW += dyᵀ·x, in fp32.   dW: (out, in) float
SPILLWAY_OP(linear_backward_weight, float* dW, const act* dy, const act* x, int rows, int in, int out,
            bool accumulate);

// --- Attention ---
// q and k of the fused projection, in place: q = norm_D(rope(q)), the same for k; v stays.
//   rope at position t = r mod T, half-split pairs (j, j + D/2), θ = t·base^(−2j/D):
//   y1 = x1·cos θ + x2·sin θ ;  y2 = −x1·sin θ + x2·cos θ
// qkv: (rows, 3, H, D)  rstd: (rows, 2, H)  cosine, sine: (T, D/2) floats holding bf16-rounded values (rope_tables)
SPILLWAY_OP(rope_qk_norm_forward, act* qkv, float* rstd, const float* cosine, const float* sine, int B, int T,
            int H, int D);
// In place: dqkv arrives as the gradient after rope and norm and leaves as the gradient of the projection's output.
// qkv: as rope_qk_norm_forward left it.
SPILLWAY_OP(rope_qk_norm_backward, act* dqkv, const act* qkv, const float* rstd, const float* cosine,
            const float* sine, int B, int T, int H, int D);

// o = softmax(q·kᵀ/√D + causal)·v per head.  lse[b,h,t] = log Σ exp(score), natural log, scores scaled.
// o: (rows, H, D)  lse: (B, H, T)  qkv: (rows, 3, H, D)
// |score| ≤ √D because q and k are RMS-normalized: no running maximum is needed.
SPILLWAY_OP(attention_forward, act* o, float* lse, const act* qkv, int B, int T, int H, int D);
// dqkv: (rows, 3, H, D) = gradients of q, k, v.  workspace: attention_workspace(B, T, H) floats,
// 16-byte aligned.
SPILLWAY_OP(attention_backward, act* dqkv, const act* d_o, const act* o, const float* lse, const act* qkv,
            float* workspace, int B, int T, int H, int D);
// Two statistics per row and head, each sequence rounded up to whole tiles of 64 rows.
inline std::int64_t attention_workspace(int B, int T, int H) {
  return 2 * static_cast<std::int64_t>(B) * H * ((T + 63) / 64 * 64);
}

// --- Products with what follows them, which a device may compute at once ---
// qkv = x·Wᵀ, then rope_qk_norm_forward.   qkv: (rows, 3, H, D)  x: (rows, C)  W: (3C, C)
SPILLWAY_OP(qkv_forward, act* qkv, float* rstd, const act* x, const act* W, const float* cosine,
            const float* sine, int B, int T, int H, int D);
// attention_backward, then rope_qk_norm_backward on dqkv.
SPILLWAY_OP(attention_rope_backward, act* dqkv, const act* d_o, const act* o, const float* lse,
            const act* qkv, const float* rstd, const float* cosine, const float* sine, float* workspace,
            int B, int T, int H, int D);
// a = relu(x·Wᵀ)².   a: (rows, out)  x: (rows, in)  W: (out, in)
SPILLWAY_OP(linear_relu2_forward, act* a, const act* x, const act* W, int rows, int in, int out);
// dh = 2·√a·(dy·W).   dh, a: (rows, in)  dy: (rows, out)  W: (out, in)
SPILLWAY_OP(linear_relu2_backward, act* dh, const act* dy, const act* W, const act* a, int rows, int in,
            int out);

// --- Feed-forward ---
// a = relu(h)², in place allowed.   n elements
SPILLWAY_OP(relu2_forward, act* a, const act* h, std::int64_t n);
// dh = 2·√a·da, in place allowed.
SPILLWAY_OP(relu2_backward, act* dh, const act* da, const act* a, std::int64_t n);

// --- Loss ---
// z = 15·tanh(u/15) ;  losses[r] = log Σ exp(z[r,:]) − z[r,target] ;  a target of −1 gives loss 0 and gradient 0.
// If dscale ≠ 0 the logits u are overwritten with dscale·dloss/du = dscale·(softmax(z) − 1[target])·(1 − (z/15)²).
// losses: (rows)  logits: (rows, V)  targets: (rows)
SPILLWAY_OP(softcap_cross_entropy, float* losses, act* logits, const std::int32_t* targets, float dscale,
            int rows, int V);

// --- Reductions ---
// *sum (one float) = or += Σ values, fixed order.
SPILLWAY_OP(sum, float* total, const float* values, std::int64_t n, bool accumulate);
// *total = or += Σ values², fixed order; a non-finite value gives a non-finite total.
SPILLWAY_OP(sum_of_squares, float* total, const float* values, std::int64_t n, bool accumulate);
// values *= factor
SPILLWAY_OP(scale, float* values, float factor, std::int64_t n);
// values += addends
SPILLWAY_OP(add, float* values, const float* addends, std::int64_t n);

// --- Optimizers ---
// All updates read *gate_total (device) and do nothing at all where it is not finite: the step is skipped.

struct AdamwStep {
  float learning_rate, beta1, beta2, epsilon;
  float bias_correction1, bias_correction2;  // 1 − βᵗ
};
// m = β1·m + (1−β1)·g ;  v = β2·v + (1−β2)·g² ;  p −= lr·(m/bc1)/(√(v/bc2) + eps) ; then compute_copy = act(p) if not null.
SPILLWAY_OP(adamw_update, float* p, act* compute_copy, float* m, float* v, const float* g,
            const AdamwStep& step, const float* gate_total, std::int64_t n);

struct MuonStep {
  float learning_rate;  // before the shape factor √max(1, rows/cols), which the op applies
  float momentum;       // μ
  float beta2;          // 0.95, NorMuon's variance reduction
  float weight_decay;   // cautious
};
// One Muon step (model.md, "Optimizers") on `count` contiguous (rows, cols) matrices, each on its own.
// p, momentum: (count, rows, cols)  variance: (count, max(rows, cols) kept axis: rows if rows ≥ cols, else cols)
// g: (count, rows, cols), may be overwritten.  workspace: muon_workspace(count, rows, cols) floats.
// X is rounded to bf16 before the iteration on both devices; the iteration runs in fp32 on the CPU, in bf16 on CUDA.
SPILLWAY_OP(muon_update, float* p, act* compute_copy, float* momentum, float* variance, float* g,
            float* workspace, const MuonStep& step, const float* gate_total, int count, int rows, int cols);
inline std::int64_t muon_workspace(int count, int rows, int cols) {
  const std::int64_t small = rows < cols ? rows : cols;
  return count * (2 * static_cast<std::int64_t>(rows) * cols + 2 * small * small) + 4 * count;
}

// compute_copy = act(p); on the CPU the caller lets both be the same memory and never calls this.
SPILLWAY_OP(cast_parameters, act* compute_copy, const float* p, std::int64_t n);

#undef SPILLWAY_OP

}  // namespace spillway
