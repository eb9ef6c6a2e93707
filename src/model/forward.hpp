// Definitions of Gpt's set-up and forward pass. Included only where Gpt is instantiated for a device (gpt_<device>.cpp).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "kernels/ops.hpp"
#include "model/gpt.hpp"
#include "model/rope.hpp"

namespace spillway {
namespace gpt_detail {

// B·T, refused where the ops' int sizes could not hold the largest array of a layer's rows.
inline std::int64_t checked_rows(const GptSpec& spec, int micro_batch) {
  const std::int64_t most = std::numeric_limits<int>::max() / spec.sequence;
  if (micro_batch < 1 || micro_batch > most)
    fail(ExitCode::usage, "train.micro-batch = {}: must be between 1 and {} at model.sequence = {}",
         micro_batch, most, spec.sequence);
  return static_cast<std::int64_t>(micro_batch) * spec.sequence;
}

inline void check_tokens(const char* what, const std::int32_t* tokens, std::int64_t count, int lowest,
                         int vocab) {
  for (std::int64_t i = 0; i < count; ++i)
    if (tokens[i] < lowest || tokens[i] >= vocab)
      fail(ExitCode::bad_data,
           "{} {} at position {} is outside the model's vocabulary of {}: data of another tokenizer", what,
           tokens[i], i, vocab);
}

}  // namespace gpt_detail

template <class Dev>
Gpt<Dev>::Gpt(Dev& device, const GptSpec& spec, int micro_batch, Purpose purpose,
              std::int64_t logits_chunk_elements)
    : device_(device),
      spec_(spec),
      at_(spec),
      max_rows_(gpt_detail::checked_rows(spec, micro_batch)),
      chunk_rows_(logits_chunk_rows<Dev>(spec, max_rows_, logits_chunk_elements)),
      training_(purpose == Purpose::train),
      memory_(device, spec, max_rows_, training_, chunk_rows_) {
  const RopeTables tables = rope_tables(spec.sequence, spec.head_dim());
  const std::size_t bytes = tables.cosine.size() * sizeof(float);
  if (training_ && wants_fp8(device_)) {
    check_fp8_sizes(spec_);
    if constexpr (kHasFp8<Dev>)
      fp8_ = std::make_unique<Fp8Blocks<Dev>>(device_, spec_, at_, memory_, max_rows_);
  }
  device_.copy_from_host(memory_.cosine, tables.cosine.data(), bytes);
  device_.copy_from_host(memory_.sine, tables.sine.data(), bytes);
}

template <class Dev>
std::vector<MemoryUse> Gpt<Dev>::memory_use() const {
  std::vector<MemoryUse> uses = memory_.memory_use();
  if constexpr (kHasFp8<Dev>)
    if (fp8_)
      for (const MemoryUse& use : fp8_->memory_use()) uses.push_back(use);
  return uses;
}

template <class Dev>
void Gpt<Dev>::forward_loss(const Weights<Dev>& weights, const Batch& batch, float* loss_total,
                            bool accumulate) {
  const Shape shape = upload(batch.tokens, batch.targets, batch.B, batch.T);
  forward(weights, shape);
  loss_forward(weights, shape, loss_total, accumulate);
}

template <class Dev>
std::vector<float> Gpt<Dev>::logits(const Weights<Dev>& weights, std::span<const std::int32_t> prompt,
                                    int first) {
  SPILLWAY_CHECK(first >= 0 && static_cast<std::size_t>(first) < prompt.size());
  const Shape shape = upload(prompt.data(), nullptr, 1, static_cast<int>(prompt.size()));
  forward(weights, shape);
  const int C = spec_.width, V = spec_.vocab;
  std::vector<float> result;
  std::vector<act> chunk;
  for (int begin = first; begin < shape.rows; begin += chunk_rows_) {
    const int rows = std::min(chunk_rows_, shape.rows - begin);
    linear_forward(device_, memory_.logits, memory_.h_final + static_cast<std::int64_t>(begin) * C,
                   weights.compute + at_.lm_head(), rows, C, V, false);
    chunk.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(V));
    device_.copy_to_host(chunk.data(), memory_.logits, chunk.size() * sizeof(act));
    for (const act u : chunk) result.push_back(kLogitSoftcap * std::tanh(to_float(u) / kLogitSoftcap));
  }
  return result;
}

// Checks the tokens and copies them to the device.
template <class Dev>
typename Gpt<Dev>::Shape Gpt<Dev>::upload(const std::int32_t* tokens, const std::int32_t* targets, int B,
                                          int T) {
  const std::int64_t rows = static_cast<std::int64_t>(B) * T;
  SPILLWAY_CHECK(B >= 1 && T >= 1 && T <= spec_.sequence && rows <= max_rows_);
  const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(std::int32_t);
  gpt_detail::check_tokens("token", tokens, rows, 0, spec_.vocab);
  device_.copy_from_host(memory_.tokens, tokens, bytes);
  if (targets != nullptr) {
    gpt_detail::check_tokens("target", targets, rows, -1, spec_.vocab);
    device_.copy_from_host(memory_.targets, targets, bytes);
  }
  if (memory_.order != nullptr) {
    order_.resize(static_cast<std::size_t>(rows));
    order_by_token(order_, {tokens, order_.size()}, spec_.vocab);
    device_.copy_from_host(memory_.order, order_.data(), bytes);
  }
  return {B, T, static_cast<int>(rows)};
}

template <class Dev>
void Gpt<Dev>::forward(const Weights<Dev>& weights, const Shape& shape, bool in_fp8) {
  const int rows = shape.rows, C = spec_.width;
  embedding_norm_forward(device_, memory_.x0, memory_.rstd_0, memory_.tokens, weights.compute + at_.wte(),
                         rows, C);
  device_.copy_on_device(memory_.x, memory_.x0, static_cast<std::size_t>(rows) * C * sizeof(act));
  for (int layer = 0; layer < spec_.layers; ++layer) {
    if constexpr (kHasFp8<Dev>)
      if (in_fp8) {
        fp8_->forward_layer(weights, shape.B, shape.T, layer);
        continue;
      }
    forward_layer(weights, shape, layer);
  }
  mix_norm_forward(device_, memory_.h_final, memory_.rstd_final, memory_.x, memory_.x0, nullptr, nullptr,
                   rows, C);
}

template <class Dev>
void Gpt<Dev>::forward_layer(const Weights<Dev>& weights, const Shape& shape, int layer) {
  const int rows = shape.rows, C = spec_.width, H = spec_.heads, D = spec_.head_dim();
  const LayerActivations<act>& kept = memory_.layer(layer);
  const act* W = weights.compute;
  const float* lambda_r = spec_.scalars ? weights.master + at_.lambda_r(layer) : nullptr;
  const float* lambda_0 = spec_.scalars ? weights.master + at_.lambda_0(layer) : nullptr;

  mix_norm_forward(device_, kept.h_attention, kept.rstd_attention, memory_.x, memory_.x0, lambda_r, lambda_0,
                   rows, C);
  qkv_forward(device_, kept.qkv, kept.rstd_qk, kept.h_attention, W + at_.qkv(layer), memory_.cosine,
              memory_.sine, shape.B, shape.T, H, D);
  attention_forward(device_, kept.o, kept.lse, kept.qkv, shape.B, shape.T, H, D);
  linear_forward(device_, memory_.x, kept.o, W + at_.out(layer), rows, C, C, true);

  mix_norm_forward(device_, kept.h_mlp, kept.rstd_mlp, memory_.x, memory_.x0, nullptr, nullptr, rows, C);
  linear_relu2_forward(device_, kept.a, kept.h_mlp, W + at_.fc(layer), rows, C, 4 * C);
  linear_forward(device_, memory_.x, kept.a, W + at_.proj(layer), rows, 4 * C, C, true);
}

template <class Dev>
void Gpt<Dev>::loss_forward(const Weights<Dev>& weights, const Shape& shape, float* loss_total,
                            bool accumulate) {
  const int C = spec_.width, V = spec_.vocab;
  for (int begin = 0; begin < shape.rows; begin += chunk_rows_) {
    const int rows = std::min(chunk_rows_, shape.rows - begin);
    linear_forward(device_, memory_.logits, memory_.h_final + static_cast<std::int64_t>(begin) * C,
                   weights.compute + at_.lm_head(), rows, C, V, false);
    softcap_cross_entropy(device_, memory_.losses + begin, memory_.logits, memory_.targets + begin, 0.0f,
                          rows, V);
  }
  sum(device_, loss_total, memory_.losses, shape.rows, accumulate);
}

}  // namespace spillway
