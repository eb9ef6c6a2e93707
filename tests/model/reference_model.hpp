// The model a second time, in float64 and as plain loops over one sequence: what the ops are checked against.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/types.hpp"
#include "model/layout.hpp"

namespace spillway::test {

using Vector = std::vector<double>;

// y = x·Wᵀ for one row, W: (out, in) at `offset` of the flat vector.
inline Vector multiply(const Vector& parameters, std::int64_t offset, const Vector& x, int out) {
  Vector y(static_cast<std::size_t>(out), 0.0);
  const double* row = parameters.data() + offset;
  for (double& value : y) {
    for (const double element : x) value += *row++ * element;
  }
  return y;
}

inline void normalize(double* x, int n) {
  double squares = 0;
  for (int i = 0; i < n; ++i) squares += x[i] * x[i];
  const double rstd = 1 / std::sqrt(squares / n + 1.1920929e-7);
  for (int i = 0; i < n; ++i) x[i] *= rstd;
}

inline Vector normalized(Vector x) {
  normalize(x.data(), static_cast<int>(x.size()));
  return x;
}

inline void rotate(double* x, int position, int D) {
  for (int j = 0; j < D / 2; ++j) {
    const double angle = position * std::pow(10000.0, -2.0 * j / D);
    const double c = round_to_bf16(static_cast<float>(std::cos(angle)));
    const double s = round_to_bf16(static_cast<float>(std::sin(angle)));
    const double x1 = x[j], x2 = x[j + D / 2];
    x[j] = x1 * c + x2 * s;
    x[j + D / 2] = -x1 * s + x2 * c;
  }
}

// Causal attention of one layer over the T rows of h; adds its output to the rows of x.
inline void add_attention(const GptSpec& spec, const Vector& parameters, int layer,
                          const std::vector<Vector>& h, std::vector<Vector>& x) {
  const int C = spec.width, H = spec.heads, D = spec.head_dim();
  const WeightOffsets at(spec);
  const std::int64_t square = static_cast<std::int64_t>(C) * C;
  std::vector<Vector> q, k, v;
  for (std::size_t t = 0; t < h.size(); ++t) {
    q.push_back(multiply(parameters, at.qkv(layer), h[t], C));
    k.push_back(multiply(parameters, at.qkv(layer) + square, h[t], C));
    v.push_back(multiply(parameters, at.qkv(layer) + 2 * square, h[t], C));
    for (int head = 0; head < H; ++head)
      for (Vector* row : {&q.back(), &k.back()}) {
        rotate(row->data() + head * D, static_cast<int>(t), D);
        normalize(row->data() + head * D, D);
      }
  }
  for (std::size_t t = 0; t < h.size(); ++t) {
    Vector o(static_cast<std::size_t>(C), 0.0);
    for (int head = 0; head < H; ++head) {
      Vector weight(t + 1, 0.0);
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        double score = 0;
        for (int i = head * D; i < (head + 1) * D; ++i) score += q[t][i] * k[s][i];
        total += weight[s] = std::exp(score / std::sqrt(static_cast<double>(D)));
      }
      for (std::size_t s = 0; s <= t; ++s)
        for (int i = head * D; i < (head + 1) * D; ++i) o[i] += weight[s] / total * v[s][i];
    }
    const Vector y = multiply(parameters, at.out(layer), o, C);
    for (int i = 0; i < C; ++i) x[t][i] += y[i];
  }
}

inline void add_feed_forward(const GptSpec& spec, const Vector& parameters, int layer, Vector& x) {
  const WeightOffsets at(spec);
  Vector a = multiply(parameters, at.fc(layer), normalized(x), spec.ffn());
  for (double& value : a) value = value > 0 ? value * value : 0;
  const Vector y = multiply(parameters, at.proj(layer), a, spec.width);
  for (int i = 0; i < spec.width; ++i) x[i] += y[i];
}

// Softcapped logits z after each of T tokens.
inline std::vector<Vector> reference_logits(const GptSpec& spec, const Vector& parameters,
                                            const std::int32_t* tokens, int T) {
  const int C = spec.width;
  const WeightOffsets at(spec);
  std::vector<Vector> x;
  for (int t = 0; t < T; ++t) {
    const auto row = parameters.begin() + at.wte() + static_cast<std::int64_t>(tokens[t]) * C;
    x.push_back(normalized(Vector(row, row + C)));
  }
  const std::vector<Vector> x0 = x;
  for (int layer = 0; layer < spec.layers; ++layer) {
    std::vector<Vector> h;
    for (std::size_t t = 0; t < x.size(); ++t) {
      if (spec.scalars)
        for (int i = 0; i < C; ++i)
          x[t][i] = parameters[at.lambda_r(layer)] * x[t][i] + parameters[at.lambda_0(layer)] * x0[t][i];
      h.push_back(normalized(x[t]));
    }
    add_attention(spec, parameters, layer, h, x);
    for (Vector& row : x) add_feed_forward(spec, parameters, layer, row);
  }
  std::vector<Vector> z;
  for (const Vector& row : x) {
    z.push_back(multiply(parameters, at.lm_head(), normalized(row), spec.vocab));
    for (double& value : z.back()) value = 15 * std::tanh(value / 15);
  }
  return z;
}

// Σ over B sequences of T tokens of the cross entropies; target −1 counts 0.
inline double reference_loss(const GptSpec& spec, const Vector& parameters,
                             const std::vector<std::int32_t>& tokens,
                             const std::vector<std::int32_t>& targets, int B, int T) {
  double loss = 0;
  for (int b = 0; b < B; ++b) {
    const std::vector<Vector> z = reference_logits(spec, parameters, tokens.data() + b * T, T);
    for (int t = 0; t < T; ++t) {
      const std::int32_t target = targets[b * T + t];
      if (target < 0) continue;
      double total = 0;
      for (const double value : z[t]) total += std::exp(value);
      loss += std::log(total) - z[t][target];
    }
  }
  return loss;
}

}  // namespace spillway::test
