// Chooses between our attention and cuDNN's. Both use the same layout and the same log-sum-exp, so each direction of each
// shape is chosen on its own.
#include <array>
#include <cstdio>
#include <stdexcept>

#include "kernels/cuda/attention_cudnn.hpp"
#include "kernels/cuda/attention_own.hpp"
#include "kernels/cuda/attention_plans.hpp"
#include "kernels/cuda/state.hpp"
#include "kernels/cuda/trial.hpp"
#include "kernels/ops.hpp"

namespace spillway {

AttentionPlans::AttentionPlans() = default;
AttentionPlans::~AttentionPlans() = default;

CudnnAttention& AttentionPlans::cudnn(Cuda& device, const AttentionShape& shape) {
  std::unique_ptr<CudnnAttention>& attention = cudnn_[shape];
  if (!attention) attention = std::make_unique<CudnnAttention>(device, shape);
  return *attention;
}

void AttentionPlans::release_cudnn(const AttentionShape& shape) { cudnn_.erase(shape); }

namespace {

const char* name_of(AttentionPass pass) {
  switch (pass) {
    case AttentionPass::forward:
      return "forward";
    case AttentionPass::backward:
      return "backward";
    case AttentionPass::rope_backward:
      return "and rope backward";
  }
  return "";
}

}  // namespace

std::string AttentionPlans::describe() const {
  std::string text;
  for (const auto& [shape, cudnn] : cudnn_)
    if (cudnn) text += "cuDNN attention holds " + std::to_string(cudnn->scratch_bytes() >> 20) + " MiB\n";
  for (const auto& [key, plan] : plans_) {
    if (!plan.chosen) continue;
    std::array<char, 400> line{};
    std::snprintf(line.data(), line.size(), "attention %s B%d T%d H%d D%d: %s (%s)\n", name_of(key.pass),
                  key.shape.B, key.shape.T, key.shape.H, key.shape.D, plan.use_cudnn ? "cuDNN" : "own",
                  plan.why.c_str());
    text += line.data();
  }
  return text;
}

namespace {

// Decides `automatic` at the first call of a shape in a rehearsal. The trial runs are harmless: they overwrite the outputs with the
// values they are about to get.
template <class Own, class Cudnn>
void choose(const Cuda& device, AttentionPlan& plan, const Own& own, const Cudnn& cudnn) {
  plan.chosen = true;
  if (device.deterministic) {
    plan.why = "deterministic";
    return;
  }
  if (!Cuda::has_cudnn_attention()) {
    plan.why = "built without cuDNN's";
    return;
  }
  try {
    const auto [own_ms, cudnn_ms] = medians_ms(device, own, cudnn);
    plan.use_cudnn = cudnn_ms < own_ms;
    plan.why = "own " + std::to_string(own_ms) + " ms, cuDNN " + std::to_string(cudnn_ms) + " ms";
  } catch (const std::runtime_error& error) {
    plan.why = error.what();
  }
}

template <class Own, class Cudnn>
void run_chosen(const Cuda& device, AttentionPlan& plan, const Own& own, const Cudnn& cudnn) {
  if (device.attention == AttentionChoice::own) return own();
  if (device.attention == AttentionChoice::cudnn) return cudnn();
  if (!plan.chosen && device.rehearsing) choose(device, plan, own, cudnn);
  plan.use_cudnn ? cudnn() : own();
}

// After both directions are decided, cuDNN's memory is only kept where it is used.
void release_unused(const Cuda& device, AttentionPlans& plans, const AttentionShape& shape,
                    AttentionPass backward) {
  const AttentionPlan& forward_plan = plans.plan(shape, AttentionPass::forward);
  if (device.attention == AttentionChoice::automatic && forward_plan.chosen && !forward_plan.use_cudnn &&
      !plans.plan(shape, backward).use_cudnn)
    plans.release_cudnn(shape);
}

}  // namespace

std::size_t Cuda::attention_scratch_bytes(int B, int T, int H, int D) {
  if (!has_cudnn_attention() || attention == AttentionChoice::own) return 0;
  if (attention == AttentionChoice::cudnn)
    return state_->attention_plans->cudnn(*this, {B, T, H, D}).scratch_bytes();
  if (deterministic) return 0;
  try {
    return state_->attention_plans->cudnn(*this, {B, T, H, D}).scratch_bytes();
  } catch (const std::runtime_error&) {
    return 0;  // it supports no such shape: the trial will say why
  }
}

void Cuda::release_attention(int B, int T, int H, int D) {
  state_->attention_plans->release_cudnn({B, T, H, D});
}

void attention_forward(Cuda& device, bf16* o, float* lse, const bf16* qkv, int B, int T, int H, int D) {
  const AttentionShape shape = {B, T, H, D};
  AttentionPlans& plans = *device.state().attention_plans;
  run_chosen(
      device, plans.plan(shape, AttentionPass::forward),
      [&] { own_attention_forward(device, o, lse, qkv, B, T, H, D); },
      [&] { plans.cudnn(device, shape).forward(o, lse, qkv); });
}

void attention_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                        const bf16* qkv, float* workspace, int B, int T, int H, int D) {
  const AttentionShape shape = {B, T, H, D};
  AttentionPlans& plans = *device.state().attention_plans;
  run_chosen(
      device, plans.plan(shape, AttentionPass::backward),
      [&] { own_attention_backward(device, dqkv, d_o, o, lse, qkv, workspace, B, T, H, D); },
      [&] { plans.cudnn(device, shape).backward(dqkv, d_o, o, lse, qkv); });
  release_unused(device, plans, shape, AttentionPass::backward);
}

void attention_rope_backward(Cuda& device, bf16* dqkv, const bf16* d_o, const bf16* o, const float* lse,
                             const bf16* qkv, const float* rstd, const float* cosine, const float* sine,
                             float* workspace, int B, int T, int H, int D) {
  const AttentionShape shape = {B, T, H, D};
  AttentionPlans& plans = *device.state().attention_plans;
  const auto rope = [&] { rope_qk_norm_backward(device, dqkv, qkv, rstd, cosine, sine, B, T, H, D); };
  run_chosen(
      device, plans.plan(shape, AttentionPass::rope_backward),
      [&] {
        if (D != 32)
          return own_attention_rope_backward(device, dqkv, d_o, o, lse, qkv, rstd, cosine, sine, workspace, B,
                                             T, H, D);
        own_attention_backward(device, dqkv, d_o, o, lse, qkv, workspace, B, T, H, D);
        rope();
      },
      [&] {
        plans.cudnn(device, shape).backward(dqkv, d_o, o, lse, qkv);
        rope();
      });
  release_unused(device, plans, shape, AttentionPass::rope_backward);
}

}  // namespace spillway
