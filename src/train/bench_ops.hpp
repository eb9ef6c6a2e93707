// Definitions of measure_ceilings and time_ops. Included only where they are instantiated (bench_<device>.cpp).
#pragma once

#include <algorithm>

#include "train/bench.hpp"
#include "train/bench_arrays.hpp"
#include "train/bench_fp8_ops.hpp"
#include "train/bench_timer.hpp"
#include "train/rehearsal.hpp"

namespace spillway::bench_detail {

// Times the ops one after the other; each method is one part of the step.
template <class Dev>
class OpBench {
 public:
  OpBench(Dev& device, const GptSpec& spec, int micro_batch, std::int64_t tokens_per_step)
      : device_(device),
        spec_(spec),
        B_(micro_batch),
        rows_(micro_batch * spec.sequence),
        passes_(static_cast<double>(tokens_per_step) / rows_),
        fp8_(wants_fp8(device)),
        memory_(device, spec, micro_batch),
        timer_(device) {
    set_rehearsing(device_, true);  // every output is thrown away
  }
  ~OpBench() { set_rehearsing(device_, false); }
  OpBench(const OpBench&) = delete;
  OpBench& operator=(const OpBench&) = delete;

  std::vector<OpTiming> run() {
    embedding();
    norms();
    if (fp8_)
      fp8_blocks();
    else
      blocks();
    lm_head();
    attention();
    loss();
    optimizers();
    return timer_.take();
  }

 private:
  using act = typename Dev::Activation;

  // bytes: in units of activations (narrow rows of C channels), the common currency of this model.
  void time(const std::string& name, double calls, double flop, double bytes, const Run& op) {
    timer_.time(name, calls, flop, bytes, op);
  }
  double narrow_bytes() const { return static_cast<double>(rows_) * spec_.width * sizeof(act); }
  double layers() const { return passes_ * spec_.layers; }
  double measured() const { return std::min(passes_, 1.0); }  // micro-batches that measure FP8 scales

  void embedding() {
    const int C = spec_.width;
    auto& a = memory_;
    time("embedding norm forward", passes_, 0, 2 * narrow_bytes(),
         [&] { embedding_norm_forward(device_, a.x, a.rstd, a.tokens, a.weights, rows_, C); });
    // dwte's rows are read and written in fp32.
    const double touched = 8.0 * C * static_cast<double>(a.distinct_tokens);
    time("embedding norm backward", passes_, 0, (spec_.scalars ? 3 : 2) * narrow_bytes() + touched, [&] {
      embedding_norm_backward(device_, a.p, a.dx, spec_.scalars ? a.dx0 : nullptr, a.x, a.rstd, a.tokens,
                              a.order, rows_, C);
    });
  }

  // How often a step calls the bf16 norms: all of them, or with FP8 blocks the final ones and, backward, those whose gradient
  // has no known scale or no reader in FP8 (Fp8Blocks::norm_backward).
  struct NormCalls {
    double mixed_forward, forward, mixed_backward, backward;
  };
  NormCalls norm_calls() const {
    if (!fp8_) return {layers(), passes_ + layers(), layers(), passes_ + layers()};
    const double per_layer = measured() * spec_.layers;
    return {0, passes_, per_layer + passes_ - measured(), passes_ + per_layer};
  }

  void norms() {
    const int C = spec_.width;
    NormCalls calls = norm_calls();
    auto& a = memory_;
    if (!spec_.scalars) {
      calls.forward += calls.mixed_forward, calls.backward += calls.mixed_backward;
      calls.mixed_forward = calls.mixed_backward = 0;
    }
    if (calls.mixed_forward > 0)
      time("mix norm forward", calls.mixed_forward, 0, 4 * narrow_bytes(),
           [&] { mix_norm_forward(device_, a.h, a.rstd, a.x, a.x0, a.scalars, a.scalars + 1, rows_, C); });
    time("norm forward", calls.forward, 0, 2 * narrow_bytes(),
         [&] { mix_norm_forward(device_, a.h, a.rstd, a.x, a.x0, nullptr, nullptr, rows_, C); });
    if (calls.mixed_backward > 0)
      time("mix norm backward", calls.mixed_backward, 0, 7 * narrow_bytes(), [&] {
        mix_norm_backward(device_, a.dx, a.dx0, a.scalars + 2, a.scalars + 3, a.dh, a.h, a.rstd, a.x0,
                          a.scalars, a.scalars + 1, a.workspace, rows_, C);
      });
    time("norm backward", calls.backward, 0, 4 * narrow_bytes(), [&] {
      mix_norm_backward(device_, a.dx, a.dx0, nullptr, nullptr, a.dh, a.h, a.rstd, a.x0, nullptr, nullptr,
                        a.workspace, rows_, C);
    });
  }

  void rope_qk_norm(double forward_calls, double backward_calls) {
    const int H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    auto& a = memory_;
    time("rope qk norm forward", forward_calls, 0, 4 * narrow_bytes(),
         [&] { rope_qk_norm_forward(device_, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D); });
    time("rope qk norm backward", backward_calls, 0, 6 * narrow_bytes(),
         [&] { rope_qk_norm_backward(device_, a.a, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D); });
  }

  // Part of the fused ops below; by themselves for comparison.
  void separate_parts() {
    const std::int64_t n = static_cast<std::int64_t>(rows_) * 4 * spec_.width;
    auto& a = memory_;
    rope_qk_norm(0, 0);
    time("relu2 forward", 0, 0, 8 * narrow_bytes(), [&] { relu2_forward(device_, a.da, a.a, n); });
    time("relu2 backward", 0, 0, 12 * narrow_bytes(), [&] { relu2_backward(device_, a.a, a.a, a.da, n); });
  }

  // Which pass of a layer is part of a fused op: listed for comparison alone.
  enum class Fused { none, forward, dgrad };

  void linear(const std::string& name, double calls, int rows, int in, int out, const act* input, act* output,
              bool accumulate, Fused fused = Fused::none) {
    const double flop = 2.0 * rows * in * out;
    auto& a = memory_;
    // The weight gradient accumulates from the second micro-batch on.
    time(name + " forward", fused == Fused::forward ? 0 : calls, flop, 0,
         [&] { linear_forward(device_, output, input, a.weights, rows, in, out, accumulate); });
    time(name + " dgrad", fused == Fused::dgrad ? 0 : calls, flop, 0, [&] {
      linear_backward_input(device_, const_cast<act*>(input), output, a.weights, rows, in, out, false);
    });
    time(name + " wgrad", calls, flop, 0,
         [&] { linear_backward_weight(device_, a.p, output, input, rows, in, out, true); });
  }

  void lm_head() {
    const int chunk = static_cast<int>(memory_.chunk_rows);
    linear("lm_head", passes_ * rows_ / chunk, chunk, spec_.width, spec_.vocab, memory_.h, memory_.logits,
           false);
  }

  // What the blocks multiply, in the precision of activations.
  void blocks() {
    const int C = spec_.width;
    auto& a = memory_;
    separate_parts();
    linear("qkv", layers(), rows_, C, 3 * C, a.h, a.a, false, Fused::forward);
    linear("attention out", layers(), rows_, C, C, a.h, a.x, true);
    linear("fc", layers(), rows_, C, 4 * C, a.h, a.a, false, Fused::forward);
    linear("proj", layers(), rows_, 4 * C, C, a.a, a.x, true, Fused::dgrad);
    fused();
    compare_fused();
  }

  void fp8_blocks() {
    rope_qk_norm(layers(), measured() * spec_.layers);
    if constexpr (kHasFp8<Dev>)
      Fp8OpBench<Dev>(device_, spec_, B_, measured(), passes_ - measured(), memory_, timer_).run();
  }

  // Products with what follows them. The rate is the product's.
  void fused() {
    const int C = spec_.width, H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    const double flop = 2.0 * rows_ * C * C;
    auto& a = memory_;
    time("qkv forward + rope qk norm", layers(), 3 * flop, 0,
         [&] { qkv_forward(device_, a.qkv, a.rstd_qk, a.h, a.weights, a.cosine, a.sine, B_, T, H, D); });
    time("fc forward + relu2", layers(), 4 * flop, 0,
         [&] { linear_relu2_forward(device_, a.a, a.h, a.weights, rows_, C, 4 * C); });
    time("proj dgrad + relu2 backward", layers(), 4 * flop, 0,
         [&] { linear_relu2_backward(device_, a.da, a.dx, a.weights, a.a, rows_, 4 * C, C); });
  }

  // Ours against cuBLASLt's products followed by kernels, where the device has both.
  void compare_fused();

  double attention_flop() const {  // two products over half of T²
    return 2.0 * spec_.sequence * spec_.sequence * spec_.width * B_;
  }
  Run attention_forward_run() {
    return [this, &a = memory_] {
      attention_forward(device_, a.h, a.lse, a.qkv, B_, spec_.sequence, spec_.heads, spec_.head_dim());
    };
  }
  Run attention_backward_run() {
    return [this, &a = memory_] {
      attention_backward(device_, a.a, a.dh, a.h, a.lse, a.qkv, a.workspace, B_, spec_.sequence, spec_.heads,
                         spec_.head_dim());
    };
  }
  Run attention_rope_backward_run() {
    return [this, &a = memory_] {
      attention_rope_backward(device_, a.a, a.dh, a.h, a.lse, a.qkv, a.rstd_qk, a.cosine, a.sine, a.workspace,
                              B_, spec_.sequence, spec_.heads, spec_.head_dim());
    };
  }

  // Each implementation by itself, where the device has several.
  void compare_attention();

  void attention() {
    const int H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    rope_qk_norm_forward(device_, memory_.qkv, memory_.rstd_qk, memory_.cosine, memory_.sine, B_, T, H, D);
    const double backward_flop = 2.5 * attention_flop();
    time("attention forward", layers(), attention_flop(), 0, attention_forward_run());
    time("attention backward", fp8_ ? layers() : 0, backward_flop, 0, attention_backward_run());
    if (!fp8_) time("attention rope backward", layers(), backward_flop, 0, attention_rope_backward_run());
    compare_attention();
  }

  void loss() {
    const int chunk = static_cast<int>(memory_.chunk_rows), V = spec_.vocab;
    auto& a = memory_;
    fill_random(device_, a.logits, memory_.chunk_rows * V, 3.0f);
    time("softcap cross entropy", passes_ * rows_ / chunk, 0, 2.0 * chunk * V * sizeof(act),
         [&] { softcap_cross_entropy(device_, a.losses, a.logits, a.tokens, 1e-3f, chunk, V); });
  }

  void optimizers() {
    auto& a = memory_;
    const ParameterLayout layout = make_layout(spec_);
    const std::int64_t n = spec_.embedding_parameters();
    const double copy_bytes = std::is_same_v<act, float> ? 0 : sizeof(act);
    act* copy = std::is_same_v<act, float> ? nullptr : a.compute_copy;
    float* gate = a.scalars;
    time("sum of squares", static_cast<double>(layout.total) / static_cast<double>(n), 0, 4.0 * n,
         [&] { sum_of_squares(device_, a.scalars + 2, a.g, n, false); });
    time("adamw", 2, 0, (28 + copy_bytes) * static_cast<double>(n), [&] {
      adamw_update(device_, a.p, copy, a.m, a.v, a.g, {1e-3f, 0.8f, 0.95f, 1e-10f, 1.0f, 1.0f}, gate, n);
    });
    for (const MatrixBatch& batch : layout.batches) {
      const double small = std::min(batch.rows, batch.cols), large = std::max(batch.rows, batch.cols);
      const double flop = 5.0 * batch.count * (4 * small * small * large + 2 * small * small * small);
      time("muon " + batch.name, 1, flop, 0, [&] {
        muon_update(device_, a.p, copy, a.m, a.v, a.g, a.muon_memory, {1e-3f, 0.95f, 0.95f, 0.0f}, gate,
                    batch.count, batch.rows, batch.cols);
      });
    }
  }

  Dev& device_;
  GptSpec spec_;
  int B_, rows_;
  double passes_;  // micro-batches per step
  bool fp8_;       // the blocks multiply in FP8
  BenchArrays<Dev> memory_;
  OpTimer<Dev> timer_;
};

}  // namespace spillway::bench_detail

namespace spillway {

template <class Dev>
Ceilings measure_ceilings(Dev& device) {
  using act = typename Dev::Activation;
  constexpr bool kGpu = !std::is_same_v<act, float>;
  const int n = kGpu ? 8192 : 1024;
  const std::size_t bytes = std::size_t{kGpu ? 1024 : 64} << 20;
  Arena<Dev> arena(device, "ceilings");
  act *x = nullptr, *W = nullptr, *y = nullptr;
  std::byte *from = nullptr, *to = nullptr;
  const std::int64_t square = std::int64_t{n} * n;
  for (act** matrix : {&x, &W, &y}) arena.reserve(*matrix, square);
  arena.reserve(from, static_cast<std::int64_t>(bytes));
  arena.reserve(to, static_cast<std::int64_t>(bytes));
  arena.allocate();
  bench_detail::fill_random(device, x, square, 1.0f);
  bench_detail::fill_random(device, W, square, 1.0f);
  device.set_zero(from, bytes);
  set_rehearsing(device, true);
  Ceilings ceilings;
  ceilings.copy_bytes_per_s = 2.0 * static_cast<double>(bytes) /
                              bench_detail::median_s(device, [&] { device.copy_on_device(to, from, bytes); });
  ceilings.gemm_flop_per_s = 2.0 * n * n * n / bench_detail::median_s(device, [&] {
                               linear_forward(device, y, x, W, n, n, n, false);
                             });
  if constexpr (kHasFp8<Dev>)
    if (wants_fp8(device)) ceilings.fp8_gemm_flop_per_s = bench_detail::fp8_gemm_flop_per_s(device, n);
  set_rehearsing(device, false);
  return ceilings;
}

template <class Dev>
std::vector<OpTiming> time_ops(Dev& device, const GptSpec& spec, int micro_batch,
                               std::int64_t tokens_per_step) {
  return bench_detail::OpBench<Dev>(device, spec, micro_batch, tokens_per_step).run();
}

}  // namespace spillway
