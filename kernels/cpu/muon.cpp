// Muon: momentum orthogonalized by Polar Express, NorMuon's variance reduction, cautious weight decay.
#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"
#include "kernels/polar_express.hpp"

namespace spillway {
namespace {

constexpr float kVarianceFloor = 1e-10f;

// Momentum and Nesterov: momentum ← μ·momentum + (1−μ)·g ;  g ← (1−μ)·g + μ·momentum.
void apply_momentum(float* momentum, float* g, float mu, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    momentum[i] = mu * momentum[i] + (1.0f - mu) * g[i];
    g[i] = (1.0f - mu) * g[i] + mu * momentum[i];
  }
}

// X = bf16(g) / (1.02·‖g‖ + 1e-6), rounded to bf16 again.
void load_scaled(float* X, const float* g, std::int64_t n) {
  double squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < n; ++i) {
    X[i] = round_to_bf16(g[i]);
    squares += double{X[i]} * double{X[i]};
  }
  const float inverse =
      1.0f / (kPolarExpressHeadroom * static_cast<float>(std::sqrt(squares)) + kPolarExpressEpsilon);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) X[i] = round_to_bf16(X[i] * inverse);
}

// Copies the lower triangle of a (n, n) to the upper one.
void mirror(float* a, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) a[i * n + j] = a[j * n + i];
}

// A = X·Xᵀ (rows ≤ cols) or Xᵀ·X (rows > cols), B = aI + bA + cA²; (small, small). Both are symmetric, and A² = A·Aᵀ:
// the rank-k updates compute one triangle only.
void polynomial_of_gram(float* B, float* A, const float* X, const PolarExpressCoefficients& coefficients,
                        int rows, int cols) {
  const int small = std::min(rows, cols), large = std::max(rows, cols);
  cblas_ssyrk(CblasRowMajor, CblasLower, rows > cols ? CblasTrans : CblasNoTrans, small, large, 1.0f, X, cols,
              0.0f, A, small);
  mirror(A, small);
  std::copy_n(A, static_cast<std::int64_t>(small) * small, B);
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, small, small, coefficients.c, A, small, coefficients.b,
              B, small);
  mirror(B, small);
  for (std::int64_t i = 0; i < small; ++i) B[i * (small + 1)] += coefficients.a;
}

// Five iterations X ← aX + (bA + cA²)X with A = X·Xᵀ; a tall X is multiplied from the other side instead of being
// transposed. X, Y: (rows, cols); A, B: (small, small). The result lies in the memory that is returned, X or Y.
float* orthogonalize(float* X, float* Y, float* A, float* B, int rows, int cols) {
  for (const PolarExpressCoefficients& coefficients : kPolarExpress) {
    polynomial_of_gram(B, A, X, coefficients, rows, cols);
    const float* left = rows > cols ? X : B;
    const float* right = rows > cols ? B : X;
    const int inner = std::min(rows, cols);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, inner, 1.0f, left, inner, right, cols,
                0.0f, Y, cols);
    std::swap(X, Y);
  }
  return X;
}

// NorMuon: U ← U·s·‖U‖/‖U·s‖ with s = 1/√S per row (rows ≥ cols) or per column.
// U: (rows, cols).  variance: S, one for each row or column.  squares: scratch, as long as `variance`.
void reduce_variance(float* U, float* variance, float* squares, float beta2, int rows, int cols) {
  const bool by_row = rows >= cols;
  const int kept = by_row ? rows : cols, reduced = by_row ? cols : rows;
  std::fill_n(squares, kept, 0.0f);
  for (int r = 0; r < rows; ++r) {
    const float* row = U + static_cast<std::int64_t>(r) * cols;
    if (by_row)
      squares[r] = cpu::dot(row, row, cols);
    else
      for (int c = 0; c < cols; ++c) squares[c] += row[c] * row[c];
  }
  double before = 0, after = 0;
  for (int i = 0; i < kept; ++i) {
    variance[i] = beta2 * variance[i] + (1.0f - beta2) * (squares[i] / static_cast<float>(reduced));
    before += squares[i];
    after += squares[i] / std::max(variance[i], kVarianceFloor);
  }
  const float factor = static_cast<float>(std::sqrt(before) / std::max(std::sqrt(after), 1e-10));
  float* scales = squares;  // done with
  for (int i = 0; i < kept; ++i) scales[i] = factor / std::sqrt(std::max(variance[i], kVarianceFloor));
  for (int r = 0; r < rows; ++r) {
    float* row = U + static_cast<std::int64_t>(r) * cols;
    for (int c = 0; c < cols; ++c) row[c] *= scales[by_row ? r : c];
  }
}

// P ← P − η·U − η·wd·P·[U·P ≥ 0]
void apply_update(float* p, const float* U, float learning_rate, float weight_decay, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float decay = U[i] * p[i] >= 0 ? weight_decay * p[i] : 0.0f;
    p[i] -= learning_rate * (U[i] + decay);
  }
}

}  // namespace

void muon_update(Cpu& device, float* p, float* compute_copy, float* momentum, float* variance, float* g,
                 float* workspace, const MuonStep& step, const float* gate_total, int count, int rows,
                 int cols) {
  if (!std::isfinite(*gate_total)) return;
  const std::int64_t n = static_cast<std::int64_t>(rows) * cols;
  const std::int64_t small = std::min(rows, cols), kept = std::max(rows, cols);
  const float learning_rate = step.learning_rate * std::sqrt(std::max(1.0f, static_cast<float>(rows) / cols));
  const std::int64_t workspace_of_one = muon_workspace(1, rows, cols);
  // One matrix per thread: OpenBLAS runs what a thread calls in that thread, so nothing depends on their number.
#pragma omp parallel for schedule(dynamic)
  for (int index = 0; index < count; ++index) {
    float* X = workspace + index * workspace_of_one;
    float* Y = X + n;
    float* A = Y + n;
    float* B = A + small * small;
    float* update = g + index * n;
    apply_momentum(momentum + index * n, update, step.momentum, n);
    load_scaled(X, update, n);
    float* U = orthogonalize(X, Y, A, B, rows, cols);
    // The iteration is over: A and B are free, and so is the one of X and Y that U is not.
    float* squares = U == X ? Y : X;
    reduce_variance(U, variance + index * kept, squares, step.beta2, rows, cols);
    apply_update(p + index * n, U, learning_rate, step.weight_decay, n);
  }
  if (compute_copy != nullptr && compute_copy != p) cast_parameters(device, compute_copy, p, count * n);
}

}  // namespace spillway
