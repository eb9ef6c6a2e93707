// Definitions of measure_ceilings and time_ops. Included only where they are instantiated (bench_<device>.cpp).
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "core/rng.hpp"
#include "model/activations.hpp"
#include "model/layout.hpp"
#include "model/rope.hpp"
#include "train/bench.hpp"
#include "train/rehearsal.hpp"
#include "train/stopwatch.hpp"

namespace spillway::bench_detail {

template <class T>
T element(float value) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_bf16(value);
  else
    return static_cast<T>(value);
}

// Normal random values, one block repeated: never time on zeros, they draw less power and hide cancellation.
template <class Dev, class T>
void fill_random(Dev& device, T* values, std::int64_t count, float scale) {
  constexpr std::int64_t kBlock = 1 << 18;
  std::vector<T> block(static_cast<std::size_t>(std::min(count, kBlock)));
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = element<T>(scale * normal01(7, 0, i));
  device.copy_from_host(values, block.data(), block.size() * sizeof(T));
  for (std::int64_t done = kBlock; done < count; done *= 2)
    device.copy_on_device(values + done, values,
                          static_cast<std::size_t>(std::min(done, count - done)) * sizeof(T));
}

// Median of repeated runs, about a quarter of a second in all.
template <class Dev>
double median_s(Dev& device, const std::function<void()>& run) {
  Stopwatch<Dev> watch(device);
  run();  // plans, caches, page faults
  watch.mark();
  run();
  const double once_s = watch.lap_s();
  std::vector<double> times(static_cast<std::size_t>(std::clamp(0.25 / once_s, 3.0, 15.0)));
  for (double& time : times) {
    watch.mark();
    run();
    time = watch.lap_s();
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// One array per role, shared by all ops that fit it.
template <class Dev>
struct BenchArrays {
  using act = typename Dev::Activation;

  BenchArrays(Dev& where, const GptSpec& spec, int micro_batch) : device(where), arena(where, "benchmark") {
    const std::int64_t C = spec.width, rows = std::int64_t{micro_batch} * spec.sequence, V = spec.vocab;
    const std::int64_t half = std::int64_t{spec.sequence} * (spec.head_dim() / 2);
    chunk_rows = std::clamp<std::int64_t>(kLogitsChunkElements<Dev> / V, 1, rows);
    for (act** narrow : {&x, &x0, &h, &dx, &dx0, &dh}) reserve(*narrow, rows * C, 1.0f);
    for (act** wide : {&a, &da}) reserve(*wide, rows * 4 * C, 1.0f);
    reserve(qkv, rows * 3 * C, 1.0f);
    reserve(logits, chunk_rows * V, 3.0f);
    reserve(weights, std::max(V * C, 4 * C * C), 0.02f);
    for (float** row : {&rstd, &losses}) reserve(*row, rows, 1.0f);
    for (float** heads : {&rstd_qk, &lse}) reserve(*heads, rows * 2 * spec.heads, 1.0f);
    for (float** table : {&cosine, &sine}) reserve(*table, half, 1.0f);
    reserve(scalars, 4, 1.0f);
    reserve(workspace,
            std::max(attention_workspace(micro_batch, spec.sequence, spec.heads),
                     mix_norm_workspace(static_cast<int>(rows))),
            1.0f);
    const ParameterLayout layout = make_layout(spec);
    std::int64_t largest = V * C, muon = 0;
    for (const MatrixBatch& batch : layout.batches) {
      largest = std::max(largest, std::int64_t{batch.count} * batch.rows * batch.cols);
      muon = std::max(muon, muon_workspace(batch.count, batch.rows, batch.cols));
    }
    for (float** parameter : {&p, &g, &m, &v}) reserve(*parameter, largest, 0.1f);
    reserve(compute_copy, largest, 0.1f);
    reserve(muon_memory, muon, 0.1f);
    for (std::int32_t** numbers : {&tokens, &order}) arena.reserve(*numbers, rows);
    arena.allocate();
    for (const auto& fill : fills) fill();
    fill_tokens(rows, V);
    const RopeTables tables = rope_tables(spec.sequence, spec.head_dim());
    device.copy_from_host(cosine, tables.cosine.data(), tables.cosine.size() * sizeof(float));
    device.copy_from_host(sine, tables.sine.data(), tables.sine.size() * sizeof(float));
    const float lambdas[4] = {0.9f, 0.1f, 0.0f, 0.0f};  // λr, λ0, their gradients
    device.copy_from_host(scalars, lambdas, sizeof lambdas);
  }

  template <class T>
  void reserve(T*& pointer, std::int64_t count, float scale) {
    arena.reserve(pointer, count);
    fills.push_back([this, &pointer, count, scale] { fill_random(device, pointer, count, scale); });
  }
  void fill_tokens(std::int64_t rows, std::int64_t V) {
    std::vector<std::int32_t> host(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < host.size(); ++i)
      host[i] = static_cast<std::int32_t>(uniform01(8, 0, i) * static_cast<float>(V));
    device.copy_from_host(tokens, host.data(), host.size() * sizeof(std::int32_t));
    std::vector<std::int32_t> by_token(host.size());
    order_by_token(by_token, host, static_cast<int>(V));
    device.copy_from_host(order, by_token.data(), by_token.size() * sizeof(std::int32_t));
    distinct_tokens = static_cast<std::int64_t>(std::set(host.begin(), host.end()).size());
  }

  Dev& device;
  Arena<Dev> arena;
  std::vector<std::function<void()>> fills;
  std::int64_t chunk_rows = 0;
  act *x = nullptr, *x0 = nullptr, *h = nullptr, *dx = nullptr, *dx0 = nullptr, *dh = nullptr, *a = nullptr,
      *da = nullptr, *qkv = nullptr, *logits = nullptr, *weights = nullptr, *compute_copy = nullptr;
  float *rstd = nullptr, *losses = nullptr, *rstd_qk = nullptr, *lse = nullptr, *cosine = nullptr,
        *sine = nullptr, *scalars = nullptr, *workspace = nullptr, *p = nullptr, *g = nullptr, *m = nullptr,
        *v = nullptr, *muon_memory = nullptr;
  std::int32_t *tokens = nullptr, *order = nullptr;
  std::int64_t distinct_tokens = 0;
};

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
        memory_(device, spec, micro_batch) {
    set_rehearsing(device_, true);  // every output is thrown away
  }
  ~OpBench() { set_rehearsing(device_, false); }
  OpBench(const OpBench&) = delete;
  OpBench& operator=(const OpBench&) = delete;

  std::vector<OpTiming> run() {
    embedding();
    norms();
    linear_layers();
    fused();
    attention();
    loss();
    optimizers();
    return std::move(timings_);
  }

 private:
  using act = typename Dev::Activation;

  // bytes: in units of activations (narrow rows of C channels), the common currency of this model.
  void time(const std::string& name, double calls, double flop, double bytes,
            const std::function<void()>& op) {
    timings_.push_back({name, calls, median_s(device_, op), flop, bytes});
  }
  double narrow_bytes() const { return static_cast<double>(rows_) * spec_.width * sizeof(act); }

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

  void norms() {
    const int C = spec_.width, H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    const double layers = passes_ * spec_.layers, plain = passes_ * (spec_.layers + 1);
    auto& a = memory_;
    const double mixed = spec_.scalars ? layers : 0;
    time("mix norm forward", mixed, 0, 4 * narrow_bytes(),
         [&] { mix_norm_forward(device_, a.h, a.rstd, a.x, a.x0, a.scalars, a.scalars + 1, rows_, C); });
    time("norm forward", spec_.scalars ? plain : plain + layers, 0, 2 * narrow_bytes(),
         [&] { mix_norm_forward(device_, a.h, a.rstd, a.x, a.x0, nullptr, nullptr, rows_, C); });
    time("mix norm backward", mixed, 0, 7 * narrow_bytes(), [&] {
      mix_norm_backward(device_, a.dx, a.dx0, a.scalars + 2, a.scalars + 3, a.dh, a.h, a.rstd, a.x0,
                        a.scalars, a.scalars + 1, a.workspace, rows_, C);
    });
    time("norm backward", spec_.scalars ? plain : plain + layers, 0, 4 * narrow_bytes(), [&] {
      mix_norm_backward(device_, a.dx, a.dx0, nullptr, nullptr, a.dh, a.h, a.rstd, a.x0, nullptr, nullptr,
                        a.workspace, rows_, C);
    });
    // Part of the fused ops below; by themselves for comparison.
    time("rope qk norm forward", 0, 0, 4 * narrow_bytes(),
         [&] { rope_qk_norm_forward(device_, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D); });
    time("rope qk norm backward", 0, 0, 6 * narrow_bytes(),
         [&] { rope_qk_norm_backward(device_, a.a, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D); });
    const std::int64_t n = static_cast<std::int64_t>(rows_) * 4 * C;
    time("relu2 forward", 0, 0, 8 * narrow_bytes(), [&] { relu2_forward(device_, a.a, a.a, n); });
    time("relu2 backward", 0, 0, 12 * narrow_bytes(), [&] { relu2_backward(device_, a.da, a.da, a.a, n); });
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

  void linear_layers() {
    const int C = spec_.width, chunk = static_cast<int>(memory_.chunk_rows);
    const double layers = passes_ * spec_.layers;
    auto& a = memory_;
    linear("qkv", layers, rows_, C, 3 * C, a.h, a.a, false, Fused::forward);
    linear("attention out", layers, rows_, C, C, a.h, a.x, true);
    linear("fc", layers, rows_, C, 4 * C, a.h, a.a, false, Fused::forward);
    linear("proj", layers, rows_, 4 * C, C, a.a, a.x, true, Fused::dgrad);
    linear("lm_head", passes_ * rows_ / chunk, chunk, C, spec_.vocab, a.h, a.logits, false);
  }

  // Products with what follows them. The rate is the product's.
  void fused() {
    const int C = spec_.width, H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    const double layers = passes_ * spec_.layers, flop = 2.0 * rows_ * C * C;
    auto& a = memory_;
    time("qkv forward + rope qk norm", layers, 3 * flop, 0,
         [&] { qkv_forward(device_, a.qkv, a.rstd_qk, a.h, a.weights, a.cosine, a.sine, B_, T, H, D); });
    time("fc forward + relu2", layers, 4 * flop, 0,
         [&] { linear_relu2_forward(device_, a.a, a.h, a.weights, rows_, C, 4 * C); });
    time("proj dgrad + relu2 backward", layers, 4 * flop, 0,
         [&] { linear_relu2_backward(device_, a.da, a.dx, a.weights, a.a, rows_, 4 * C, C); });
  }

  void attention_passes(const std::string& suffix, double calls) {
    const int H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    const double flop = 2.0 * T * T * D * H * B_;  // two products over half of T²
    auto& a = memory_;
    time("attention forward" + suffix, calls, flop, 0,
         [&] { attention_forward(device_, a.h, a.lse, a.qkv, B_, T, H, D); });
    time("attention backward" + suffix, 0, 2.5 * flop, 0,
         [&] { attention_backward(device_, a.a, a.dh, a.h, a.lse, a.qkv, a.workspace, B_, T, H, D); });
    time("attention rope backward" + suffix, calls, 2.5 * flop, 0, [&] {
      attention_rope_backward(device_, a.a, a.dh, a.h, a.lse, a.qkv, a.rstd_qk, a.cosine, a.sine, a.workspace,
                              B_, T, H, D);
    });
  }

  // Each implementation by itself, where the device has several.
  void compare_attention();

  void attention() {
    const int H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    rope_qk_norm_forward(device_, memory_.qkv, memory_.rstd_qk, memory_.cosine, memory_.sine, B_, T, H, D);
    attention_passes("", passes_ * spec_.layers);
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
  BenchArrays<Dev> memory_;
  std::vector<OpTiming> timings_;
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
  set_rehearsing(device, false);
  return ceilings;
}

template <class Dev>
std::vector<OpTiming> time_ops(Dev& device, const GptSpec& spec, int micro_batch,
                               std::int64_t tokens_per_step) {
  return bench_detail::OpBench<Dev>(device, spec, micro_batch, tokens_per_step).run();
}

}  // namespace spillway
