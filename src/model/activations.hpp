// What a forward pass keeps for the backward pass, and the scratch memory of both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/arena.hpp"
#include "kernels/ops.hpp"
#include "model/spec.hpp"

namespace spillway {

// Logits exist for so many elements at once. CUDA: 16,384 rows at V = 65,536, the row count at which the lm_head GEMMs
// were measured (performance.md: 765/740/747 TFLOP/s, H100, 2026-11-22). CPU: 16 MiB, about a last-level cache.
template <class Dev>
inline constexpr std::int64_t kLogitsChunkElements = std::int64_t{1} << 30;
template <>
inline constexpr std::int64_t kLogitsChunkElements<Cpu> = std::int64_t{1} << 22;

// Rows of logits that exist at once, of `rows`.
template <class Dev>
int logits_chunk_rows(const GptSpec& spec, std::int64_t rows,
                      std::int64_t chunk_elements = kLogitsChunkElements<Dev>) {
  return static_cast<int>(std::clamp<std::int64_t>(chunk_elements / spec.vocab, 1, rows));
}

// Of one layer: 10 vectors of C channels per token and a few floats. The residual stream itself is not kept:
// the backward pass of the norms needs only their outputs (mix_norm_backward).
template <class act>
struct LayerActivations {
  act* h_attention;       // (rows, C)        norm before attention
  float* rstd_attention;  // (rows)
  act* qkv;               // (rows, 3, H, D)  after RoPE and QK norm
  float* rstd_qk;         // (rows, 2, H)
  act* o;                 // (rows, H, D)
  float* lse;             // (B, H, T)
  act* h_mlp;             // (rows, C)        norm before the feed-forward part
  float* rstd_mlp;        // (rows)
  act* a;                 // (rows, 4C)       relu²; with FP8 blocks what goes into it
};

// Memory for up to `max_rows` = B·T tokens at a time. For training, activations of all layers and the backward pass's
// scratch; otherwise the layers share one set.
template <class Dev>
class Activations {
 public:
  using act = typename Dev::Activation;

  Activations(Dev& device, const GptSpec& spec, std::int64_t max_rows, bool training, std::int64_t chunk_rows)
      : stored_(device, "activations"), scratch_(device, "scratch"), logits_arena_(device, "logits") {
    const std::int64_t rows = max_rows, C = spec.width, H = spec.heads;
    layers_.resize(static_cast<std::size_t>(training ? spec.layers : 1));
    for (LayerActivations<act>& layer : layers_) reserve_layer(layer, rows, C, H);
    stored_.reserve(x0, rows * C);
    stored_.reserve(rstd_0, rows);
    stored_.reserve(h_final, rows * C);
    stored_.reserve(rstd_final, rows);
    stored_.allocate();

    scratch_.reserve(x, rows * C);
    scratch_.reserve(tokens, rows);
    scratch_.reserve(targets, rows);
    scratch_.reserve(losses, rows);
    scratch_.reserve(cosine, static_cast<std::int64_t>(spec.sequence) * (spec.head_dim() / 2));
    scratch_.reserve(sine, static_cast<std::int64_t>(spec.sequence) * (spec.head_dim() / 2));
    if (training) {
      scratch_.reserve(order, rows);
      scratch_.reserve(dx, rows * C);
      scratch_.reserve(dx0, spec.scalars ? rows * C : 0);
      scratch_.reserve(d_narrow, rows * C);
      scratch_.reserve(d_wide, rows * 4 * C);
      const int sequences = static_cast<int>(rows / spec.sequence);
      scratch_.reserve(workspace, std::max(attention_workspace(sequences, spec.sequence, spec.heads),
                                           mix_norm_workspace(static_cast<int>(rows))));
    }
    scratch_.allocate();

    logits_arena_.reserve(logits, chunk_rows * spec.vocab);
    logits_arena_.allocate();
  }

  const LayerActivations<act>& layer(int index) const {
    return layers_[layers_.size() == 1 ? 0 : static_cast<std::size_t>(index)];
  }

  std::vector<MemoryUse> memory_use() const { return {stored_.use(), scratch_.use(), logits_arena_.use()}; }

  // Kept over all layers.
  act* x0 = nullptr;            // (rows, C)  norm of the embedding
  float* rstd_0 = nullptr;      // (rows)
  act* h_final = nullptr;       // (rows, C)  norm before lm_head
  float* rstd_final = nullptr;  // (rows)
  // Scratch of both passes.
  act* x = nullptr;                                    // (rows, C)  residual stream
  std::int32_t *tokens = nullptr, *targets = nullptr;  // (rows)
  float* losses = nullptr;                             // (rows)
  float *cosine = nullptr, *sine = nullptr;            // (T, D/2)
  act* logits = nullptr;                               // (chunk_rows, V)
  // Scratch of the backward pass; null without training.
  std::int32_t* order = nullptr;  // (rows)  rows by token
  act* dx = nullptr;              // (rows, C)   gradient at the residual stream
  act* dx0 = nullptr;             // (rows, C)   gradient at x0 through λ0; null without scalars
  act* d_narrow = nullptr;        // (rows, C)   gradient at a norm's or attention's output
  act* d_wide = nullptr;  // (rows, 4C)  gradient at the feed-forward part's or the QKV projection's output
  float* workspace = nullptr;

 private:
  void reserve_layer(LayerActivations<act>& layer, std::int64_t rows, std::int64_t C, std::int64_t H) {
    stored_.reserve(layer.h_attention, rows * C);
    stored_.reserve(layer.rstd_attention, rows);
    stored_.reserve(layer.qkv, rows * 3 * C);
    stored_.reserve(layer.rstd_qk, rows * 2 * H);
    stored_.reserve(layer.o, rows * C);
    stored_.reserve(layer.lse, rows * H);
    stored_.reserve(layer.h_mlp, rows * C);
    stored_.reserve(layer.rstd_mlp, rows);
    stored_.reserve(layer.a, rows * 4 * C);
  }

  Arena<Dev> stored_, scratch_, logits_arena_;
  std::vector<LayerActivations<act>> layers_;
};

}  // namespace spillway
