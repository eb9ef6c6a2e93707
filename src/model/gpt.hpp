// The model, written once over the ops of kernels/ops.hpp. See "The model" in the README for the formulas.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/activations.hpp"
#include "model/fp8_blocks.hpp"
#include "model/layout.hpp"
#include "model/parameters.hpp"
#include "model/spec.hpp"

namespace spillway {

// One micro-batch in host memory: B sequences of T tokens, row after row.
struct Batch {
  const std::int32_t* tokens = nullptr;   // (B, T) in [0, V)
  const std::int32_t* targets = nullptr;  // (B, T) in [0, V), or −1: ignored
  int B = 0, T = 0;
};

// Told, in stream order, that the gradients of the elements [begin, end) of the flat vector are final: later work of this
// pass does not touch them. Over a pass the ranges cover the vector once.
using GradientsReady = std::function<void(std::int64_t begin, std::int64_t end)>;

enum class Purpose { train, evaluate };  // evaluate: forward passes only, with the memory of one layer

// Forward and backward passes of one micro-batch at a time. Holds activations and scratch, but no weights.
// Calls only queue work on the device, except that logits() waits for its result.
template <class Dev>
class Gpt {
 public:
  using act = typename Dev::Activation;

  // Allocates for micro-batches of up to micro_batch sequences of spec.sequence tokens; any B·T within that will do.
  // logits_chunk_elements: rows of logits are computed so many elements at a time, at least one row.
  // Models for training on a device with `fp8` set multiply in FP8 in forward_backward(), and there alone.
  // Throws Error(usage) for a micro_batch that is not positive or too large, where memory is short, and for FP8 with a
  // spec.sequence that is no multiple of 16.
  Gpt(Dev& device, const GptSpec& spec, int micro_batch, Purpose purpose,
      std::int64_t logits_chunk_elements = kLogitsChunkElements<Dev>);
  Gpt(const Gpt&) = delete;
  Gpt& operator=(const Gpt&) = delete;

  const GptSpec& spec() const { return spec_; }
  std::vector<MemoryUse> memory_use() const;

  // Σ over the micro-batch of the tokens' losses (nats; ignored targets count 0): *loss_total = or, with accumulate, +=.
  // loss_total: one float on the device. Throws Error(bad_data) for a token or target outside the vocabulary.
  void forward_loss(const Weights<Dev>& weights, const Batch& batch, float* loss_total, bool accumulate);

  // The same, and gradients = or, with accumulate, += loss_scale·∂(Σ losses)/∂weights, in layout order, fp32 on the device.
  // loss_scale: 1/(tokens of the optimizer step) for the mean loss. ready: may be empty.
  void forward_backward(const Weights<Dev>& weights, const Batch& batch, float* gradients, float* loss_total,
                        float loss_scale, bool accumulate, const GradientsReady& ready = {});

  // Losses of the last call's tokens, (B, T) on the device.
  const float* losses() const { return memory_.losses; }

  // Logits z = 15·tanh(u/15) after each token of the prompt from position `first` on: (prompt − first, V), host memory.
  // The prompt has 1 to spec.sequence tokens; first is a position in it. Throws Error(bad_data) as forward_loss does.
  std::vector<float> logits(const Weights<Dev>& weights, std::span<const std::int32_t> prompt, int first);

 private:
  struct Shape {  // of the current call
    int B, T, rows;
  };

  Shape upload(const std::int32_t* tokens, const std::int32_t* targets, int B, int T);
  void forward(const Weights<Dev>& weights, const Shape& shape, bool in_fp8 = false);
  void forward_layer(const Weights<Dev>& weights, const Shape& shape, int layer);
  void loss_forward(const Weights<Dev>& weights, const Shape& shape, float* loss_total, bool accumulate);
  void loss_forward_backward(const Weights<Dev>& weights, const Shape& shape, float* gradients,
                             float* loss_total, float loss_scale, bool accumulate);
  void backward(const Weights<Dev>& weights, const Shape& shape, float* gradients, bool accumulate,
                const GradientsReady& ready);
  void backward_mlp(const Weights<Dev>& weights, const Shape& shape, float* gradients, int layer,
                    bool accumulate);
  void backward_attention(const Weights<Dev>& weights, const Shape& shape, float* gradients, int layer,
                          bool accumulate);

  Dev& device_;
  GptSpec spec_;
  WeightOffsets at_;
  std::int64_t max_rows_;
  int chunk_rows_;  // rows of logits at a time
  bool training_;
  Activations<Dev> memory_;
  std::unique_ptr<Fp8Blocks<Dev>> fp8_;  // null: bf16
  std::vector<std::int32_t> order_;      // of the current micro-batch, on its way to the device
};

}  // namespace spillway
