// The blocks of a training pass with FP8 products: QKV, attention's output, and both feed-forward projections, forward and
// backward. Embedding, norms, attention, lm_head and loss are those of bf16; so are the weights that optimizers and
// checkpoints see. Only for devices with kHasFp8.
//
// Scales belong to no state: weights are cast at an optimizer step's first micro-batch, which also measures every scale;
// the step's other micro-batches hold them. A norm's output needs no measurement: no element of it is above √C.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "core/error.hpp"
#include "kernels/fp8.hpp"
#include "kernels/ops.hpp"
#include "model/activations.hpp"
#include "model/layout.hpp"
#include "model/parameters.hpp"

namespace spillway {

// Whether a device can multiply in FP8 at all, and whether it is asked to.
template <class Dev>
inline constexpr bool kHasFp8 = requires(Dev& device) {
  device.fp8;
};
template <class Dev>
bool wants_fp8(const Dev& device) {
  if constexpr (kHasFp8<const Dev>)
    return device.fp8;
  else
    return false;
}

// Throws Error(usage) for sizes whose matrices cannot be multiplied in FP8: all must be multiples of 16. Widths are.
inline void check_fp8_sizes(const GptSpec& spec) {
  if (spec.sequence % 16 != 0)
    fail(ExitCode::usage, "model.sequence = {}: train.precision = fp8 needs a multiple of 16", spec.sequence);
}

// The matrices of one layer that exist in FP8 for as long as a micro-batch or longer. Those of activations keep only what
// the weight gradients read, the transposed copy; `direct` is scratch.
struct Fp8Layer {
  Fp8Matrix W_qkv, W_out, W_fc, W_proj;  // (3C,C) (C,C) (4C,C) (C,4C)
  Fp8Matrix h_attention, o, h_mlp, a;    // (rows,C) (rows,C) (rows,C) (rows,4C)
  Fp8Matrix dx_mlp, dh, dx_attention,
      dqkv;  // (rows,C) (rows,4C) (rows,C) (rows,3C), gradients: both copies are scratch
};

// Device memory of FP8 training for up to max_rows tokens at a time.
template <class Dev>
class Fp8Memory {
 public:
  Fp8Memory(Dev& device, const GptSpec& spec, std::int64_t max_rows)
      : weights_(device, "fp8 weights"), activations_(device, "fp8 activations") {
    const std::int64_t C = spec.width, square = C * C, rows = max_rows;
    layers.resize(static_cast<std::size_t>(spec.layers));
    activations_.reserve(direct_, rows * 4 * C);
    activations_.reserve(transposed_, rows * 4 * C);
    weights_.reserve(scales_, static_cast<std::int64_t>(layers.size() * kMatrices));
    for (Fp8Layer& layer : layers) {
      reserve_weight(layer.W_qkv, 3 * square);
      reserve_weight(layer.W_out, square);
      reserve_weight(layer.W_fc, 4 * square);
      reserve_weight(layer.W_proj, 4 * square);
      for (Fp8Matrix* narrow : {&layer.h_attention, &layer.o, &layer.h_mlp})
        activations_.reserve(narrow->transposed, rows * C);
      activations_.reserve(layer.a.transposed, rows * 4 * C);
    }
    weights_.allocate();
    activations_.allocate();
    for (std::size_t i = 0; i < layers.size(); ++i) point_to_shared(layers[i], scales_ + i * kMatrices);
  }

  std::vector<MemoryUse> memory_use() const { return {weights_.use(), activations_.use()}; }
  std::size_t scale_bytes() const { return layers.size() * kMatrices * sizeof(Fp8Scale); }
  Fp8Scale* scales() const { return scales_; }

  std::vector<Fp8Layer> layers;

 private:
  static constexpr std::size_t kMatrices = sizeof(Fp8Layer) / sizeof(Fp8Matrix);

  void reserve_weight(Fp8Matrix& weight, std::int64_t count) {
    weights_.reserve(weight.direct, count);
    weights_.reserve(weight.transposed, count);
  }

  void point_to_shared(Fp8Layer& layer, Fp8Scale* scale) {
    for (Fp8Matrix* matrix :
         {&layer.W_qkv, &layer.W_out, &layer.W_fc, &layer.W_proj, &layer.h_attention, &layer.o, &layer.h_mlp,
          &layer.a, &layer.dx_mlp, &layer.dh, &layer.dx_attention, &layer.dqkv}) {
      matrix->scale = scale++;
      matrix->format = Fp8Format::e4m3;
    }
    for (Fp8Matrix* activation : {&layer.h_attention, &layer.o, &layer.h_mlp, &layer.a})
      activation->direct = direct_;
    for (Fp8Matrix* gradient : {&layer.dx_mlp, &layer.dh, &layer.dx_attention, &layer.dqkv}) {
      gradient->format = Fp8Format::e5m2;
      gradient->direct = direct_;
      gradient->transposed = transposed_;
    }
  }

  Arena<Dev> weights_, activations_;
  Fp8Scale* scales_ = nullptr;
  fp8 *direct_ = nullptr, *transposed_ = nullptr;  // (rows, 4C) each, of one matrix at a time
};

// Queues the same work as Gpt's bf16 blocks, on the same activations, with one difference: where those keep
// a = relu(h)², this keeps h itself, from which backward needs no root.
template <class Dev>
class Fp8Blocks {
 public:
  using act = typename Dev::Activation;

  // Throws Error(usage) where memory is short.
  Fp8Blocks(Dev& device, const GptSpec& spec, const WeightOffsets& at, const Activations<Dev>& memory,
            std::int64_t max_rows)
      : device_(device), spec_(spec), at_(at), memory_(memory), own_(device, spec, max_rows) {
    Fp8Scale bound{};
    bound.amax = std::sqrt(static_cast<float>(spec.width));
    for (const Fp8Layer& layer : own_.layers)
      for (const Fp8Matrix* normed : {&layer.h_attention, &layer.h_mlp})
        device_.copy_from_host(normed->scale, &bound, sizeof bound);
  }

  std::vector<MemoryUse> memory_use() const { return own_.memory_use(); }

  // Before the passes of a micro-batch. first: of an optimizer step; then the weights are new, and scales are measured.
  void begin(const Weights<Dev>& weights, bool first) {
    scaling_ = first ? Fp8Scaling::measure : Fp8Scaling::hold;
    if (!first) return;
    const int C = spec_.width;
    for (int i = 0; i < spec_.layers; ++i) {
      const Fp8Layer& layer = own_.layers[static_cast<std::size_t>(i)];
      fp8_cast(device_, layer.W_qkv, weights.compute + at_.qkv(i), 3 * C, C, scaling_);
      fp8_cast(device_, layer.W_out, weights.compute + at_.out(i), C, C, scaling_);
      fp8_cast(device_, layer.W_fc, weights.compute + at_.fc(i), 4 * C, C, scaling_);
      fp8_cast(device_, layer.W_proj, weights.compute + at_.proj(i), C, 4 * C, scaling_);
    }
  }

  void forward_layer(const Weights<Dev>& weights, int B, int T, int index) {
    const int rows = B * T, C = spec_.width, H = spec_.heads, D = spec_.head_dim();
    const LayerActivations<act>& kept = memory_.layer(index);
    const Fp8Layer& layer = own_.layers[static_cast<std::size_t>(index)];
    const float* lambda_r = spec_.scalars ? weights.master + at_.lambda_r(index) : nullptr;
    const float* lambda_0 = spec_.scalars ? weights.master + at_.lambda_0(index) : nullptr;

    fp8_mix_norm_forward(device_, layer.h_attention, kept.h_attention, kept.rstd_attention, memory_.x,
                         memory_.x0, lambda_r, lambda_0, rows, C);
    fp8_linear_forward(device_, kept.qkv, layer.h_attention, layer.W_qkv, rows, C, 3 * C, false);
    rope_qk_norm_forward(device_, kept.qkv, kept.rstd_qk, memory_.cosine, memory_.sine, B, T, H, D);
    attention_forward(device_, kept.o, kept.lse, kept.qkv, B, T, H, D);
    fp8_cast(device_, layer.o, kept.o, rows, C, scaling_);
    fp8_linear_forward(device_, memory_.x, layer.o, layer.W_out, rows, C, C, true);

    fp8_mix_norm_forward(device_, layer.h_mlp, kept.h_mlp, kept.rstd_mlp, memory_.x, memory_.x0, nullptr,
                         nullptr, rows, C);
    act* h = kept.a;
    fp8_linear_forward(device_, h, layer.h_mlp, layer.W_fc, rows, C, 4 * C, false);
    fp8_relu2_forward(device_, layer.a, h, rows, 4 * C, scaling_);
    fp8_linear_forward(device_, memory_.x, layer.a, layer.W_proj, rows, 4 * C, C, true);
  }

  // dx, the gradient at the residual stream, from after to before the feed-forward part.
  void backward_mlp(float* gradients, int rows, int index, bool accumulate) {
    const int C = spec_.width;
    const LayerActivations<act>& kept = memory_.layer(index);
    const Fp8Layer& layer = own_.layers[static_cast<std::size_t>(index)];
    const act* h = kept.a;
    act *da = memory_.d_wide, *dh_mlp = memory_.d_narrow;

    // Under a held scale, the norm that left dx has cast it already: all but the final one.
    if (scaling_ == Fp8Scaling::measure || index == spec_.layers - 1)
      fp8_cast(device_, layer.dx_mlp, memory_.dx, rows, C, scaling_);
    fp8_linear_backward_weight(device_, gradients + at_.proj(index), layer.dx_mlp, layer.a, rows, 4 * C, C,
                               accumulate);
    fp8_linear_backward_input(device_, da, layer.dx_mlp, layer.W_proj, rows, 4 * C, C, false);
    fp8_relu2_backward(device_, layer.dh, da, h, rows, 4 * C, scaling_);
    fp8_linear_backward_weight(device_, gradients + at_.fc(index), layer.dh, layer.h_mlp, rows, C, 4 * C,
                               accumulate);
    fp8_linear_backward_input(device_, dh_mlp, layer.dh, layer.W_fc, rows, C, 4 * C, false);
    norm_backward(&layer.dx_attention, nullptr, nullptr, nullptr, dh_mlp, kept.h_mlp, kept.rstd_mlp, nullptr,
                  nullptr, rows);
  }

  // The same of attention and of the mix with x0.
  void backward_attention(const Weights<Dev>& weights, float* gradients, int B, int T, int index,
                          bool accumulate) {
    const int rows = B * T, C = spec_.width, H = spec_.heads, D = spec_.head_dim();
    const LayerActivations<act>& kept = memory_.layer(index);
    const Fp8Layer& layer = own_.layers[static_cast<std::size_t>(index)];
    act *d_o = memory_.d_narrow, *dqkv = memory_.d_wide, *dh = memory_.d_narrow;

    if (scaling_ == Fp8Scaling::measure) fp8_cast(device_, layer.dx_attention, memory_.dx, rows, C, scaling_);
    fp8_linear_backward_weight(device_, gradients + at_.out(index), layer.dx_attention, layer.o, rows, C, C,
                               accumulate);
    fp8_linear_backward_input(device_, d_o, layer.dx_attention, layer.W_out, rows, C, C, false);
    attention_backward(device_, dqkv, d_o, kept.o, kept.lse, kept.qkv, memory_.workspace, B, T, H, D);
    cast_dqkv(layer, kept, dqkv, B, T);
    fp8_linear_backward_weight(device_, gradients + at_.qkv(index), layer.dqkv, layer.h_attention, rows, C,
                               3 * C, accumulate);
    fp8_linear_backward_input(device_, dh, layer.dqkv, layer.W_qkv, rows, C, 3 * C, false);

    const bool mixed = spec_.scalars;
    const Fp8Matrix* below = index > 0 ? &own_.layers[static_cast<std::size_t>(index) - 1].dx_mlp : nullptr;
    norm_backward(below, memory_.dx0, mixed ? gradients + at_.lambda_r(index) : nullptr,
                  mixed ? gradients + at_.lambda_0(index) : nullptr, dh, kept.h_attention,
                  kept.rstd_attention, mixed ? weights.master + at_.lambda_r(index) : nullptr,
                  mixed ? weights.master + at_.lambda_0(index) : nullptr, rows);
  }

 private:
  // Through a norm. dx also leaves as *cast, where its scale is known beforehand; null: nothing reads it in FP8.
  void norm_backward(const Fp8Matrix* cast, act* dx0, float* dlambda_r, float* dlambda_0, const act* dh,
                     const act* h, const float* rstd, const float* lambda_r, const float* lambda_0,
                     int rows) {
    const int C = spec_.width;
    if (cast != nullptr && scaling_ == Fp8Scaling::hold)
      fp8_mix_norm_backward(device_, *cast, memory_.dx, dx0, dlambda_r, dlambda_0, dh, h, rstd, memory_.x0,
                            lambda_r, lambda_0, memory_.workspace, rows, C);
    else
      mix_norm_backward(device_, memory_.dx, dx0, dlambda_r, dlambda_0, dh, h, rstd, memory_.x0, lambda_r,
                        lambda_0, memory_.workspace, rows, C);
  }

  void cast_dqkv(const Fp8Layer& layer, const LayerActivations<act>& kept, act* dqkv, int B, int T) {
    const int H = spec_.heads, D = spec_.head_dim();
    if (scaling_ == Fp8Scaling::hold)
      return fp8_rope_qk_norm_backward(device_, layer.dqkv, dqkv, kept.qkv, kept.rstd_qk, memory_.cosine,
                                       memory_.sine, B, T, H, D);
    rope_qk_norm_backward(device_, dqkv, kept.qkv, kept.rstd_qk, memory_.cosine, memory_.sine, B, T, H, D);
    fp8_cast(device_, layer.dqkv, dqkv, B * T, 3 * H * D, scaling_);
  }

  Dev& device_;
  const GptSpec& spec_;
  const WeightOffsets& at_;
  const Activations<Dev>& memory_;
  Fp8Memory<Dev> own_;
  Fp8Scaling scaling_ = Fp8Scaling::measure;
};

}  // namespace spillway
