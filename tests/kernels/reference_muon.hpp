// Muon in float64, rounding to bf16 where a device that iterates in bf16 stores a matrix.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/types.hpp"
#include "tests/kernels/reference.hpp"

namespace spillway::reference {

inline double rounded(double value) { return round_to_bf16(static_cast<float>(value)); }

// out[i,j] = Σ_k a[i,k]·b[j,k] where transposed_b, else a[i,k]·b[k,j].
inline Vector product(const Vector& a, const Vector& b, int m, int n, int k, bool transposed_b) {
  Vector out = zeros(std::int64_t{m} * n);
  for (int i = 0; i < m; ++i)
    for (int l = 0; l < k; ++l)
      for (int j = 0; j < n; ++j)
        out[at(std::int64_t{i} * n + j)] +=
            a[at(std::int64_t{i} * k + l)] *
            b[at(transposed_b ? std::int64_t{j} * k + l : std::int64_t{l} * n + j)];
  return out;
}

inline Vector transpose(const Vector& a, int rows, int cols) {
  Vector out = zeros(std::int64_t{rows} * cols);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) out[at(std::int64_t{j} * rows + i)] = a[at(std::int64_t{i} * cols + j)];
  return out;
}

inline double norm_of(const Vector& a) {
  double squares = 0;
  for (const double value : a) squares += value * value;
  return std::sqrt(squares);
}

// Polar Express of one matrix with rows ≤ cols. in_bf16: every product is rounded, as on a device that iterates in bf16.
inline Vector orthogonalize(Vector X, int rows, int cols, bool in_bf16) {
  const auto kept = [in_bf16](double value) { return in_bf16 ? rounded(value) : value; };
  constexpr std::array<std::array<double, 3>, 5> coefficients = {
      {{8.156554524902461, -22.48329292557795, 15.878769915207462},
       {4.042929935166739, -2.808917465908714, 0.5000178451051316},
       {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
       {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
       {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}}};
  for (const auto& [a, b, c] : coefficients) {
    Vector A = product(X, X, rows, rows, cols, true);
    for (double& value : A) value = kept(value);
    Vector B = product(A, A, rows, rows, rows, false);
    for (std::size_t i = 0; i < B.size(); ++i) B[i] = kept(c * B[i] + b * A[i]);
    Vector next = product(B, X, rows, cols, rows, false);
    for (std::size_t i = 0; i < next.size(); ++i) next[i] = kept(a * X[i] + next[i]);
    X = next;
  }
  return X;
}

// One matrix of muon_update; p, momentum and variance are updated.
inline void muon_update(Vector& p, Vector& momentum, Vector& variance, const Vector& g, const MuonStep& step,
                        int rows, int cols, bool in_bf16) {
  const double mu = step.momentum;
  Vector X = zeros(std::int64_t{rows} * cols);
  for (std::size_t i = 0; i < X.size(); ++i) {
    momentum[i] = mu * momentum[i] + (1 - mu) * g[i];
    X[i] = rounded((1 - mu) * g[i] + mu * momentum[i]);
  }
  const double factor = 1 / (1.02 * norm_of(X) + 1e-6);
  for (double& value : X) value = rounded(value * factor);
  X = rows > cols ? transpose(orthogonalize(transpose(X, rows, cols), cols, rows, in_bf16), cols, rows)
                  : orthogonalize(X, rows, cols, in_bf16);

  const bool per_row = rows >= cols;
  const int kept = per_row ? rows : cols, n = per_row ? cols : rows;
  Vector mean_square = zeros(kept);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      const double value = X[at(std::int64_t{i} * cols + j)];
      mean_square[at(per_row ? i : j)] += value * value / n;
    }
  double after = 0;
  for (int i = 0; i < kept; ++i) {
    variance[at(i)] = step.beta2 * variance[at(i)] + (1 - step.beta2) * mean_square[at(i)];
    after += mean_square[at(i)] * n / std::max(variance[at(i)], 1e-10);
  }
  const double balance = norm_of(X) / std::max(std::sqrt(after), 1e-10);
  const double eta = step.learning_rate * std::sqrt(std::max(1.0, static_cast<double>(rows) / cols));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      const std::size_t place = at(std::int64_t{i} * cols + j);
      const double update = X[place] / std::sqrt(std::max(variance[at(per_row ? i : j)], 1e-10)) * balance;
      const double decay = update * p[place] >= 0 ? eta * step.weight_decay * p[place] : 0;
      p[place] -= eta * update + decay;
    }
}

}  // namespace spillway::reference
