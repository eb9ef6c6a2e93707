// Definitions of Gpt's backward pass. Included only where Gpt is instantiated for a device (gpt_<device>.cpp).
#pragma once

#include <algorithm>

#include "core/error.hpp"
#include "kernels/ops.hpp"
#include "model/gpt.hpp"

namespace spillway {

template <class Dev>
void Gpt<Dev>::forward_backward(const Weights<Dev>& weights, const Batch& batch, float* gradients,
                                float* loss_total, float loss_scale, bool accumulate,
                                const GradientsReady& ready) {
  SPILLWAY_CHECK(training_ && loss_scale != 0.0f && batch.B <= max_rows_ / spec_.sequence);
  const Shape shape = upload(batch.tokens, batch.targets, batch.B, batch.T);
  if constexpr (kHasFp8<Dev>)
    if (fp8_) fp8_->begin(weights, !accumulate);
  forward(weights, shape, fp8_ != nullptr);
  loss_forward_backward(weights, shape, gradients, loss_total, loss_scale, accumulate);
  if (ready) ready(at_.lm_head(), at_.qkv(0));
  backward(weights, shape, gradients, accumulate, ready);
}

// Leaves the gradient at h_final in d_narrow. Forward and backward of lm_head go together, chunk by chunk of rows,
// so that the logits of all tokens never exist at once.
template <class Dev>
void Gpt<Dev>::loss_forward_backward(const Weights<Dev>& weights, const Shape& shape, float* gradients,
                                     float* loss_total, float loss_scale, bool accumulate) {
  const int C = spec_.width, V = spec_.vocab;
  const act* lm_head = weights.compute + at_.lm_head();
  for (int begin = 0; begin < shape.rows; begin += chunk_rows_) {
    const int rows = std::min(chunk_rows_, shape.rows - begin);
    const std::int64_t first = static_cast<std::int64_t>(begin) * C;
    linear_forward(device_, memory_.logits, memory_.h_final + first, lm_head, rows, C, V, false);
    softcap_cross_entropy(device_, memory_.losses + begin, memory_.logits, memory_.targets + begin,
                          loss_scale, rows, V);
    linear_backward_input(device_, memory_.d_narrow + first, memory_.logits, lm_head, rows, C, V, false);
    linear_backward_weight(device_, gradients + at_.lm_head(), memory_.logits, memory_.h_final + first, rows,
                           C, V, accumulate || begin > 0);
  }
  sum(device_, loss_total, memory_.losses, shape.rows, accumulate);
}

template <class Dev>
void Gpt<Dev>::backward(const Weights<Dev>& weights, const Shape& shape, float* gradients, bool accumulate,
                        const GradientsReady& ready) {
  const int rows = shape.rows, C = spec_.width;
  const std::size_t stream_bytes = static_cast<std::size_t>(rows) * C * sizeof(act);
  // These three only ever accumulate; everything else is overwritten by its first gradient.
  if (!accumulate) {
    device_.set_zero(gradients + at_.wte(),
                     static_cast<std::size_t>(spec_.embedding_parameters()) * sizeof(float));
    if (spec_.scalars)
      device_.set_zero(gradients + at_.lambda_r(0),
                       static_cast<std::size_t>(spec_.scalar_parameters()) * sizeof(float));
  }
  device_.set_zero(memory_.dx, stream_bytes);
  if (spec_.scalars) device_.set_zero(memory_.dx0, stream_bytes);

  mix_norm_backward(device_, memory_.dx, nullptr, nullptr, nullptr, memory_.d_narrow, memory_.h_final,
                    memory_.rstd_final, memory_.x0, nullptr, nullptr, memory_.workspace, rows, C);
  for (int layer = spec_.layers - 1; layer >= 0; --layer) {
    backward_mlp(weights, shape, gradients, layer, accumulate);
    backward_attention(weights, shape, gradients, layer, accumulate);
    if (!ready) continue;
    const std::int64_t square = static_cast<std::int64_t>(C) * C;
    ready(at_.proj(layer), at_.proj(layer) + 4 * square);
    ready(at_.fc(layer), at_.fc(layer) + 4 * square);
    ready(at_.qkv(layer), at_.qkv(layer) + 4 * square);  // with Wo
  }
  // x0 is both the first residual stream and what λ0 mixes in.
  embedding_norm_backward(device_, gradients + at_.wte(), memory_.dx, memory_.dx0, memory_.x0, memory_.rstd_0,
                          memory_.tokens, memory_.order, rows, C);
  if (!ready) return;
  ready(at_.wte(), at_.wte() + spec_.embedding_parameters());
  if (spec_.scalars) ready(at_.lambda_r(0), at_.lambda_r(0) + spec_.scalar_parameters());
}

// x_out = x + relu(norm(x)·Wfcᵀ)²·Wprojᵀ: dx is the gradient at x_out before and at x after.
template <class Dev>
void Gpt<Dev>::backward_mlp(const Weights<Dev>& weights, const Shape& shape, float* gradients, int layer,
                            bool accumulate) {
  if constexpr (kHasFp8<Dev>)
    if (fp8_) return fp8_->backward_mlp(gradients, shape.rows, layer, accumulate);
  const int rows = shape.rows, C = spec_.width;
  const LayerActivations<act>& kept = memory_.layer(layer);
  const act* W = weights.compute;
  act* d_hidden = memory_.d_wide;
  act* dh = memory_.d_narrow;

  linear_backward_weight(device_, gradients + at_.proj(layer), memory_.dx, kept.a, rows, 4 * C, C,
                         accumulate);
  linear_relu2_backward(device_, d_hidden, memory_.dx, W + at_.proj(layer), kept.a, rows, 4 * C, C);
  linear_backward_weight(device_, gradients + at_.fc(layer), d_hidden, kept.h_mlp, rows, C, 4 * C,
                         accumulate);
  linear_backward_input(device_, dh, d_hidden, W + at_.fc(layer), rows, C, 4 * C, false);
  mix_norm_backward(device_, memory_.dx, nullptr, nullptr, nullptr, dh, kept.h_mlp, kept.rstd_mlp, memory_.x0,
                    nullptr, nullptr, memory_.workspace, rows, C);
}

// m = λr·x + λ0·x0 ;  x_out = m + attention(norm(m))·Woᵀ: dx is the gradient at x_out before and at x after.
template <class Dev>
void Gpt<Dev>::backward_attention(const Weights<Dev>& weights, const Shape& shape, float* gradients,
                                  int layer, bool accumulate) {
  if constexpr (kHasFp8<Dev>)
    if (fp8_) return fp8_->backward_attention(weights, gradients, shape.B, shape.T, layer, accumulate);
  const int rows = shape.rows, C = spec_.width, H = spec_.heads, D = spec_.head_dim();
  const LayerActivations<act>& kept = memory_.layer(layer);
  const act* W = weights.compute;
  act* d_o = memory_.d_narrow;
  act* dqkv = memory_.d_wide;
  act* dh = memory_.d_narrow;  // d_o is done with by then

  linear_backward_weight(device_, gradients + at_.out(layer), memory_.dx, kept.o, rows, C, C, accumulate);
  linear_backward_input(device_, d_o, memory_.dx, W + at_.out(layer), rows, C, C, false);
  attention_rope_backward(device_, dqkv, d_o, kept.o, kept.lse, kept.qkv, kept.rstd_qk, memory_.cosine,
                          memory_.sine, memory_.workspace, shape.B, shape.T, H, D);
  linear_backward_weight(device_, gradients + at_.qkv(layer), dqkv, kept.h_attention, rows, C, 3 * C,
                         accumulate);
  linear_backward_input(device_, dh, dqkv, W + at_.qkv(layer), rows, C, 3 * C, false);

  const bool mixed = spec_.scalars;
  mix_norm_backward(device_, memory_.dx, memory_.dx0, mixed ? gradients + at_.lambda_r(layer) : nullptr,
                    mixed ? gradients + at_.lambda_0(layer) : nullptr, dh, kept.h_attention,
                    kept.rstd_attention, memory_.x0, mixed ? weights.master + at_.lambda_r(layer) : nullptr,
                    mixed ? weights.master + at_.lambda_0(layer) : nullptr, memory_.workspace, rows, C);
}

}  // namespace spillway
