// The ops of kernels/ops.hpp in float64 as plain loops: what the CPU and CUDA overloads are tested against.
// Same names, shapes and formulas; arrays are std::vector<double>, results are returned or written to references.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/ops.hpp"

namespace spillway::reference {

using Vector = std::vector<double>;
using Tokens = std::vector<std::int32_t>;

inline std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }
inline Vector zeros(std::int64_t count) { return Vector(at(count), 0.0); }

// h[r,:] = x[r,:]·rstd[r]
inline void rms_norm(Vector& h, Vector& rstd, const Vector& x, int rows, int C) {
  h = zeros(std::int64_t{rows} * C);
  rstd = zeros(rows);
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = std::int64_t{r} * C;
    double squares = 0;
    for (int c = 0; c < C; ++c) squares += x[at(row + c)] * x[at(row + c)];
    rstd[at(r)] = 1 / std::sqrt(squares / C + kNormEpsilon);
    for (int c = 0; c < C; ++c) h[at(row + c)] = x[at(row + c)] * rstd[at(r)];
  }
}

// The gradient through a norm: rstd·(dh − h·mean(dh·h)), rows of C.
inline Vector rms_norm_backward(const Vector& dh, const Vector& h, const Vector& rstd, int rows, int C) {
  Vector dx = zeros(std::int64_t{rows} * C);
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = std::int64_t{r} * C;
    double mean = 0;
    for (int c = 0; c < C; ++c) mean += dh[at(row + c)] * h[at(row + c)] / C;
    for (int c = 0; c < C; ++c) dx[at(row + c)] = rstd[at(r)] * (dh[at(row + c)] - h[at(row + c)] * mean);
  }
  return dx;
}

// The residual stream's mix with the embedding, then the norm. x: in place.
inline void mix_norm_forward(Vector& h, Vector& rstd, Vector& x, const Vector& x0, double lambda_r,
                             double lambda_0, int rows, int C) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = lambda_r * x[i] + lambda_0 * x0[i];
  rms_norm(h, rstd, x, rows, C);
}

struct LambdaGradients {
  double r, zero;  // what the op adds to dλr and dλ0
  double size;     // √Σg²: the sums cancel, so errors are measured against this
};

// dx and dx0 in place, as the op.
inline LambdaGradients mix_norm_backward(Vector& dx, Vector& dx0, const Vector& dh, const Vector& h,
                                         const Vector& rstd, const Vector& x0, double lambda_r,
                                         double lambda_0, int rows, int C) {
  const Vector through = rms_norm_backward(dh, h, rstd, rows, C);
  double with_x0 = 0, with_mixed = 0, squares = 0;
  for (std::size_t i = 0; i < dx.size(); ++i) {
    const double g = dx[i] + through[i];
    with_x0 += g * x0[i];
    with_mixed += g * h[i] / rstd[i / at(C)];
    squares += g * g;
    dx0[i] += lambda_0 * g;
    dx[i] = lambda_r * g;
  }
  return {(with_mixed - lambda_0 * with_x0) / lambda_r, with_x0, std::sqrt(squares)};
}

inline void embedding_norm_forward(Vector& x, Vector& rstd, const Tokens& tokens, const Vector& wte, int C) {
  const int rows = static_cast<int>(tokens.size());
  Vector gathered = zeros(std::int64_t{rows} * C);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < C; ++c)
      gathered[at(std::int64_t{r} * C + c)] = wte[at(std::int64_t{tokens[at(r)]} * C + c)];
  rms_norm(x, rstd, gathered, rows, C);
}

inline void embedding_norm_backward(Vector& dwte, const Vector& dx, const Vector& x, const Vector& rstd,
                                    const Tokens& tokens, int C) {
  const int rows = static_cast<int>(tokens.size());
  const Vector gradient = rms_norm_backward(dx, x, rstd, rows, C);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < C; ++c)
      dwte[at(std::int64_t{tokens[at(r)]} * C + c)] += gradient[at(std::int64_t{r} * C + c)];
}

// y[r,o] = Σ x[r,i]·W[o,i], added to y.
inline void linear_forward(Vector& y, const Vector& x, const Vector& W, int rows, int in, int out) {
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i)
        y[at(std::int64_t{r} * out + o)] += x[at(std::int64_t{r} * in + i)] * W[at(std::int64_t{o} * in + i)];
}
inline void linear_backward_input(Vector& dx, const Vector& dy, const Vector& W, int rows, int in, int out) {
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i)
        dx[at(std::int64_t{r} * in + i)] +=
            dy[at(std::int64_t{r} * out + o)] * W[at(std::int64_t{o} * in + i)];
}
inline void linear_backward_weight(Vector& dW, const Vector& dy, const Vector& x, int rows, int in, int out) {
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i)
        dW[at(std::int64_t{o} * in + i)] +=
            dy[at(std::int64_t{r} * out + o)] * x[at(std::int64_t{r} * in + i)];
}

inline Vector relu2_forward(const Vector& h) {
  Vector a = h;
  for (double& value : a) value = value > 0 ? value * value : 0;
  return a;
}
// From a = relu2_forward(h) alone.
inline Vector relu2_backward(const Vector& da, const Vector& a) {
  Vector dh = da;
  for (std::size_t i = 0; i < dh.size(); ++i) dh[i] *= 2 * std::sqrt(a[i]);
  return dh;
}

// Channels of one head of q (0), k (1) or v (2) in (rows, 3, H, D).
inline std::int64_t head_offset(std::int64_t row, int which, int head, int H, int D) {
  return ((row * 3 + which) * H + head) * D;
}

// cosine, sine: (T, D/2)
inline void rope_qk_norm_forward(Vector& qkv, Vector& rstd, const Vector& cosine, const Vector& sine, int B,
                                 int T, int H, int D) {
  rstd = zeros(std::int64_t{B} * T * 2 * H);
  for (std::int64_t row = 0; row < std::int64_t{B} * T; ++row)
    for (int which = 0; which < 2; ++which)
      for (int head = 0; head < H; ++head) {
        double* x = &qkv[at(head_offset(row, which, head, H, D))];
        double squares = 0;
        for (int j = 0; j < D / 2; ++j) {
          const double c = cosine[at(row % T * (D / 2) + j)], s = sine[at(row % T * (D / 2) + j)];
          const double x1 = x[j], x2 = x[j + D / 2];
          x[j] = x1 * c + x2 * s;
          x[j + D / 2] = x2 * c - x1 * s;
          squares += x[j] * x[j] + x[j + D / 2] * x[j + D / 2];
        }
        const double r = 1 / std::sqrt(squares / D + kNormEpsilon);
        for (int j = 0; j < D; ++j) x[j] *= r;
        rstd[at((row * 2 + which) * H + head)] = r;
      }
}

inline void rope_qk_norm_backward(Vector& dqkv, const Vector& qkv, const Vector& rstd, const Vector& cosine,
                                  const Vector& sine, int B, int T, int H, int D) {
  for (std::int64_t row = 0; row < std::int64_t{B} * T; ++row)
    for (int which = 0; which < 2; ++which)
      for (int head = 0; head < H; ++head) {
        double* d = &dqkv[at(head_offset(row, which, head, H, D))];
        const double* y = &qkv[at(head_offset(row, which, head, H, D))];
        const double r = rstd[at((row * 2 + which) * H + head)];
        double mean = 0;
        for (int j = 0; j < D; ++j) mean += d[j] * y[j] / D;
        for (int j = 0; j < D; ++j) d[j] = r * (d[j] - y[j] * mean);
        for (int j = 0; j < D / 2; ++j) {
          const double c = cosine[at(row % T * (D / 2) + j)], s = sine[at(row % T * (D / 2) + j)];
          const double d1 = d[j], d2 = d[j + D / 2];
          d[j] = d1 * c - d2 * s;
          d[j + D / 2] = d1 * s + d2 * c;
        }
      }
}

// Probabilities of query row `row` (of all B·T) over the keys of its own sequence up to itself; returns lse.
inline double attention_row(Vector& p, const Vector& qkv, std::int64_t row, int head, int T, int H, int D) {
  const std::int64_t first = row / T * T;
  p = zeros(row - first + 1);
  double sum = 0;
  for (std::int64_t key = first; key <= row; ++key) {
    double score = 0;
    for (int j = 0; j < D; ++j)
      score += qkv[at(head_offset(row, 0, head, H, D) + j)] * qkv[at(head_offset(key, 1, head, H, D) + j)];
    p[at(key - first)] = std::exp(score / std::sqrt(static_cast<double>(D)));
    sum += p[at(key - first)];
  }
  for (double& value : p) value /= sum;
  return std::log(sum);
}

inline void attention_forward(Vector& o, Vector& lse, const Vector& qkv, int B, int T, int H, int D) {
  o = zeros(std::int64_t{B} * T * H * D);
  lse = zeros(std::int64_t{B} * H * T);
  Vector p;
  for (std::int64_t row = 0; row < std::int64_t{B} * T; ++row)
    for (int head = 0; head < H; ++head) {
      const std::int64_t batch = row / T, first = batch * T;
      lse[at((batch * H + head) * T + row % T)] = attention_row(p, qkv, row, head, T, H, D);
      for (std::int64_t key = first; key <= row; ++key)
        for (int j = 0; j < D; ++j)
          o[at((row * H + head) * D + j)] +=
              p[at(key - first)] * qkv[at(head_offset(key, 2, head, H, D) + j)];
    }
}

inline Vector attention_backward(const Vector& d_o, const Vector& qkv, int B, int T, int H, int D) {
  Vector dqkv = zeros(std::int64_t{B} * T * 3 * H * D), p, dp;
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  for (std::int64_t row = 0; row < std::int64_t{B} * T; ++row)
    for (int head = 0; head < H; ++head) {
      const std::int64_t first = row / T * T;
      attention_row(p, qkv, row, head, T, H, D);
      dp = zeros(row - first + 1);
      double mean = 0;
      for (std::int64_t key = first; key <= row; ++key) {
        for (int j = 0; j < D; ++j) {
          const double gradient = d_o[at((row * H + head) * D + j)];
          dp[at(key - first)] += gradient * qkv[at(head_offset(key, 2, head, H, D) + j)];
          dqkv[at(head_offset(key, 2, head, H, D) + j)] += p[at(key - first)] * gradient;
        }
        mean += p[at(key - first)] * dp[at(key - first)];
      }
      for (std::int64_t key = first; key <= row; ++key) {
        const double ds = p[at(key - first)] * (dp[at(key - first)] - mean) * scale;
        for (int j = 0; j < D; ++j) {
          dqkv[at(head_offset(row, 0, head, H, D) + j)] += ds * qkv[at(head_offset(key, 1, head, H, D) + j)];
          dqkv[at(head_offset(key, 1, head, H, D) + j)] += ds * qkv[at(head_offset(row, 0, head, H, D) + j)];
        }
      }
    }
  return dqkv;
}

// Returns the losses; logits become dscale·gradient where dscale ≠ 0.
inline Vector softcap_cross_entropy(Vector& logits, const Tokens& targets, double dscale, int rows, int V) {
  Vector losses = zeros(rows);
  for (int r = 0; r < rows; ++r) {
    double* u = &logits[at(std::int64_t{r} * V)];
    const int target = targets[at(r)];
    double sum = 0;
    for (int c = 0; c < V; ++c) sum += std::exp(kLogitSoftcap * std::tanh(u[c] / kLogitSoftcap));
    if (target >= 0) losses[at(r)] = std::log(sum) - kLogitSoftcap * std::tanh(u[target] / kLogitSoftcap);
    for (int c = 0; c < V && dscale != 0; ++c) {
      const double tanh = std::tanh(u[c] / kLogitSoftcap);
      const double softmax = std::exp(kLogitSoftcap * tanh) / sum;
      u[c] = target < 0 ? 0 : dscale * (softmax - (c == target ? 1 : 0)) * (1 - tanh * tanh);
    }
  }
  return losses;
}

}  // namespace spillway::reference
