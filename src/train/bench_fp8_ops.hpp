// The ops that FP8 blocks run instead of bf16's, with the calls that Fp8Blocks makes of each. Included only by bench_ops.hpp,
// and used only for devices with kHasFp8.
#pragma once

#include <cmath>
#include <string>

#include "kernels/fp8.hpp"
#include "model/fp8_blocks.hpp"
#include "train/bench_arrays.hpp"
#include "train/bench_timer.hpp"

namespace spillway::bench_detail {

// Of a square product of n × n.
template <class Dev>
double fp8_gemm_flop_per_s(Dev& device, int n) {
  Arena<Dev> arena(device, "ceilings");
  typename Dev::Activation *values = nullptr, *y = nullptr;
  Fp8Matrix x = {}, W = {};
  const std::int64_t square = std::int64_t{n} * n;
  for (auto** matrix : {&values, &y}) arena.reserve(*matrix, square);
  for (Fp8Matrix* matrix : {&x, &W}) {
    arena.reserve(matrix->direct, square);
    arena.reserve(matrix->transposed, square);
    arena.reserve(matrix->scale, 1);
    matrix->format = Fp8Format::e4m3;
  }
  arena.allocate();
  fill_random(device, values, square, 1.0f);
  for (const Fp8Matrix& matrix : {x, W}) fp8_cast(device, matrix, values, n, n, Fp8Scaling::measure);
  return 2.0 * n * n * n / median_s(device, [&] { fp8_linear_forward(device, y, x, W, n, n, n, false); });
}

template <class Dev>
class Fp8OpBench {
 public:
  // measured, held: micro-batches of a step that measure scales and that hold them.
  Fp8OpBench(Dev& device, const GptSpec& spec, int micro_batch, double measured, double held,
             BenchArrays<Dev>& arrays, OpTimer<Dev>& timer)
      : device_(device),
        spec_(spec),
        B_(micro_batch),
        rows_(micro_batch * spec.sequence),
        measured_(measured * spec.layers),
        held_(held * spec.layers),
        held_passes_(held),
        arrays_(arrays),
        timer_(timer),
        memory_(device, one_layer(spec), rows_),
        layer_(memory_.layers.front()) {
    Fp8Scale bound{};
    bound.amax = std::sqrt(static_cast<float>(spec.width));  // of a norm's output, as Fp8Blocks has it
    for (const Fp8Matrix* normed : {&layer_.h_attention, &layer_.h_mlp})
      device_.copy_from_host(normed->scale, &bound, sizeof bound);
  }

  // In this order: each measures scales that later ones hold, and products multiply what casts left.
  void run() {
    weights();
    activations();
    norms();
    products();
  }

 private:
  static GptSpec one_layer(GptSpec spec) {
    spec.layers = 1;
    return spec;
  }

  // Reading so many bf16 matrices and writing both FP8 copies of one.
  static double cast_bytes(double rows, double cols, int inputs) { return rows * cols * (2 * inputs + 2); }

  // One op under both scalings. inputs: matrices read; to measure, they are read twice.
  template <class Op>
  void time_cast(const std::string& name, double measured, double held, int cols, int inputs, const Op& op) {
    timer_.time("fp8 " + name + " (measured)", measured, 0, cast_bytes(rows_, cols, 2 * inputs),
                [&] { op(Fp8Scaling::measure); });
    if (held > 0)
      timer_.time("fp8 " + name, held, 0, cast_bytes(rows_, cols, inputs), [&] { op(Fp8Scaling::hold); });
  }

  void weights() {
    const int C = spec_.width;
    const auto cast = [&](const std::string& name, const Fp8Matrix& out, int rows, int cols) {
      timer_.time("fp8 cast of " + name + " weight (measured)", measured_, 0, cast_bytes(rows, cols, 2),
                  [&] { fp8_cast(device_, out, arrays_.weights, rows, cols, Fp8Scaling::measure); });
    };
    cast("qkv", layer_.W_qkv, 3 * C, C);
    cast("attention out", layer_.W_out, C, C);
    cast("fc", layer_.W_fc, 4 * C, C);
    cast("proj", layer_.W_proj, C, 4 * C);
  }

  void activations() {
    const int C = spec_.width, H = spec_.heads, D = spec_.head_dim(), T = spec_.sequence;
    auto& a = arrays_;
    const auto cast = [&](const Fp8Matrix& out, const bf16* x, int cols) {
      return [this, out, x, cols](Fp8Scaling scaling) { fp8_cast(device_, out, x, rows_, cols, scaling); };
    };
    time_cast("cast of o", measured_, held_, C, 1, cast(layer_.o, a.h, C));
    time_cast("relu2 forward", measured_, held_, 4 * C, 1,
              [&](Fp8Scaling scaling) { fp8_relu2_forward(device_, layer_.a, a.a, rows_, 4 * C, scaling); });
    time_cast("relu2 backward", measured_, held_, 4 * C, 2, [&](Fp8Scaling scaling) {
      fp8_relu2_backward(device_, layer_.dh, a.da, a.a, rows_, 4 * C, scaling);
    });
    // Of the residual stream's gradient: twice a layer, or under held scales at the last layer alone, which the final
    // norm leaves in bf16.
    time_cast("cast of dx", 2 * measured_, held_passes_, C, 1, cast(layer_.dx_mlp, a.dx, C));
    fp8_cast(device_, layer_.dx_attention, a.dx, rows_, C, Fp8Scaling::measure);
    time_cast("cast of dqkv", measured_, 0, 3 * C, 1, cast(layer_.dqkv, a.a, 3 * C));
    if (held_ > 0)
      timer_.time("fp8 rope qk norm backward", held_, 0, 8 * narrow_bytes(), [&] {
        fp8_rope_qk_norm_backward(device_, layer_.dqkv, a.a, a.qkv, a.rstd_qk, a.cosine, a.sine, B_, T, H, D);
      });
  }

  void norms() {
    const int C = spec_.width;
    const double layers = measured_ + held_;
    auto& a = arrays_;
    const auto forward = [&](const std::string& name, double calls, double narrow, const float* lambda_r,
                             const float* lambda_0) {
      timer_.time(name, calls, 0, narrow * narrow_bytes(), [&] {
        fp8_mix_norm_forward(device_, layer_.h_attention, a.h, a.rstd, a.x, a.x0, lambda_r, lambda_0, rows_,
                             C);
      });
    };
    if (spec_.scalars) forward("fp8 mix norm forward", layers, 5, a.scalars, a.scalars + 1);
    forward("fp8 norm forward", spec_.scalars ? layers : 2 * layers, 3, nullptr, nullptr);
    if (held_ == 0) return;  // where scales are measured the backward ones are bf16's
    // The first layer's mixed norm has no reader in FP8 below it.
    const double mixed = held_ - held_passes_;
    if (spec_.scalars)
      timer_.time("fp8 mix norm backward", mixed, 0, 8 * narrow_bytes(), [&] {
        fp8_mix_norm_backward(device_, layer_.dx_mlp, a.dx, a.dx0, a.scalars + 2, a.scalars + 3, a.dh, a.h,
                              a.rstd, a.x0, a.scalars, a.scalars + 1, a.workspace, rows_, C);
      });
    timer_.time("fp8 norm backward", spec_.scalars ? held_ : held_ + mixed, 0, 5 * narrow_bytes(), [&] {
      fp8_mix_norm_backward(device_, layer_.dx_attention, a.dx, nullptr, nullptr, nullptr, a.dh, a.h, a.rstd,
                            a.x0, nullptr, nullptr, a.workspace, rows_, C);
    });
  }

  // One linear layer: x and W in e4m3, dy in e5m2, and the bf16 numbers of x and dy; y and dx are overwritten.
  struct Linear {
    const char* name;
    const Fp8Matrix &x, &W, &dy;
    const bf16 *x_values, *dy_values;
    bf16 *y, *dx;
    int in, out;
    bool accumulate;  // y
  };

  void products(const Linear& l) {
    const std::string name = std::string("fp8 ") + l.name;
    const double calls = measured_ + held_, flop = 2.0 * rows_ * l.in * l.out;
    const auto weight_gradient = [&](bool accumulate) {
      return [&, accumulate] {
        fp8_linear_backward_weight(device_, arrays_.p, l.dy, l.x, rows_, l.in, l.out, accumulate);
      };
    };
    fp8_cast(device_, l.x, l.x_values, rows_, l.in, Fp8Scaling::measure);
    timer_.time_fp8_product(name + " forward", calls, flop, [&] {
      fp8_linear_forward(device_, l.y, l.x, l.W, rows_, l.in, l.out, l.accumulate);
    });
    fp8_cast(device_, l.dy, l.dy_values, rows_, l.out,
             Fp8Scaling::measure);  // into x.direct, not x.transposed
    timer_.time_fp8_product(name + " dgrad", calls, flop, [&] {
      fp8_linear_backward_input(device_, l.dx, l.dy, l.W, rows_, l.in, l.out, false);
    });
    timer_.time_fp8_product(name + " wgrad (first)", measured_, flop, weight_gradient(false));
    if (held_ > 0) timer_.time_fp8_product(name + " wgrad", held_, flop, weight_gradient(true));
  }

  void products() {
    const int C = spec_.width;
    auto& a = arrays_;
    const Fp8Layer& f = layer_;
    products({"qkv", f.h_attention, f.W_qkv, f.dqkv, a.h, a.da, a.a, a.dh, C, 3 * C, false});
    products({"attention out", f.o, f.W_out, f.dx_attention, a.h, a.dx, a.x, a.dh, C, C, true});
    products({"fc", f.h_mlp, f.W_fc, f.dh, a.h, a.da, a.a, a.dh, C, 4 * C, false});
    products({"proj", f.a, f.W_proj, f.dx_mlp, a.a, a.dx, a.x, a.da, 4 * C, C, true});
  }

  double narrow_bytes() const { return static_cast<double>(rows_) * spec_.width * sizeof(bf16); }

  Dev& device_;
  GptSpec spec_;
  int B_, rows_;
  double measured_, held_;  // calls of what each layer does once a micro-batch
  double held_passes_;      // micro-batches
  BenchArrays<Dev>& arrays_;
  OpTimer<Dev>& timer_;
  Fp8Memory<Dev> memory_;
  const Fp8Layer& layer_;
};

}  // namespace spillway::bench_detail
