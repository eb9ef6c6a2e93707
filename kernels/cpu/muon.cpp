// Muon: momentum orthogonalized by Polar Express, NorMuon's variance reduction, cautious weight decay.
#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "kernels/ops.hpp"
#include "kernels/polar_express.hpp"

namespace spillway {
namespace {

// c (m, n) = alpha·op(a)·op(b) + beta·c, row-major.
void gemm(bool transpose_b, int m, int n, int k, float alpha, const float* a, const float* b, float beta,
          float* c) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, k, b,
              transpose_b ? k : n, beta, c, n);
}

// Momentum and Nesterov: momentum ← μ·momentum + (1−μ)·g ;  g ← (1−μ)·g + μ·momentum.
void apply_momentum(float* momentum, float* g, float mu, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    momentum[i] = mu * momentum[i] + (1.0f - mu) * g[i];
    g[i] = (1.0f - mu) * g[i] + mu * momentum[i];
  }
}

// X = bf16(g) / (1.02·‖g‖ + 1e-6), transposed if g has more rows than columns: X is (small, large).
void load_scaled(float* X, const float* g, int rows, int cols) {
  const std::int64_t n = static_cast<std::int64_t>(rows) * cols;
  const double squares = cpu::chunked_sum(n, [g](std::int64_t i) {
    const double value = round_to_bf16(g[i]);
    return value * value;
  });
  const float inverse =
      1.0f / (kPolarExpressHeadroom * static_cast<float>(std::sqrt(squares)) + kPolarExpressEpsilon);
  const bool transposed = rows > cols;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) {
      const float value = round_to_bf16(round_to_bf16(g[static_cast<std::int64_t>(r) * cols + c]) * inverse);
      X[transposed ? static_cast<std::int64_t>(c) * rows + r : static_cast<std::int64_t>(r) * cols + c] =
          value;
    }
}

// Five iterations X ← aX + (bA + cA²)X with A = XXᵀ. X: (small, large); Y: as X; A, B: (small, small).
void orthogonalize(float* X, float* Y, float* A, float* B, int small, int large) {
  const std::int64_t square = static_cast<std::int64_t>(small) * small;
  for (const auto& [a, b, c] : kPolarExpress) {
    gemm(true, small, small, large, 1.0f, X, X, 0.0f, A);
    std::copy_n(A, square, B);
    gemm(false, small, small, small, c, A, A, b, B);
    std::copy_n(X, static_cast<std::int64_t>(small) * large, Y);
    gemm(false, small, large, small, 1.0f, B, X, a, Y);
    std::copy_n(Y, static_cast<std::int64_t>(small) * large, X);
  }
}

// NorMuon: X ← X·s·‖X‖/‖X·s‖ with s = 1/√S per row (rows ≥ cols) or column of the parameter.
// U: the update in the parameter's shape, (rows, cols).
void reduce_variance(float* U, float* variance, float beta2, int rows, int cols) {
  const bool by_row = rows >= cols;
  const int kept = by_row ? rows : cols;
  const int reduced = by_row ? cols : rows;
  double before = 0, after = 0;
  for (int i = 0; i < kept; ++i) {
    double squares = 0;
    for (int j = 0; j < reduced; ++j) {
      const double value =
          U[by_row ? static_cast<std::int64_t>(i) * cols + j : static_cast<std::int64_t>(j) * cols + i];
      squares += value * value;
    }
    variance[i] = beta2 * variance[i] + (1.0f - beta2) * static_cast<float>(squares / reduced);
    before += squares;
    after += squares / std::max(variance[i], 1e-10f);
  }
  const double factor = std::sqrt(before) / std::max(std::sqrt(after), 1e-10);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) {
      const double s = 1.0 / std::sqrt(std::max(variance[by_row ? r : c], 1e-10f));
      U[static_cast<std::int64_t>(r) * cols + c] *= static_cast<float>(s * factor);
    }
}

// P ← P − η·U − η·wd·P·[U·P ≥ 0]
void apply_update(float* p, const float* U, float learning_rate, float weight_decay, std::int64_t n) {
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
  const int small = std::min(rows, cols), large = std::max(rows, cols);
  const float learning_rate = step.learning_rate * std::sqrt(std::max(1.0f, static_cast<float>(rows) / cols));
  // One matrix after the other: the GEMMs inside use all threads, and the workspace of one is enough.
  float* X = workspace;
  float* Y = X + n;
  float* A = Y + n;
  float* B = A + static_cast<std::int64_t>(small) * small;
  for (int index = 0; index < count; ++index) {
    float* update = g + index * n;
    apply_momentum(momentum + index * n, update, step.momentum, n);
    load_scaled(X, update, rows, cols);
    orthogonalize(X, Y, A, B, small, large);
    const bool transposed = rows > cols;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c)
        update[static_cast<std::int64_t>(r) * cols + c] =
            X[transposed ? static_cast<std::int64_t>(c) * rows + r : static_cast<std::int64_t>(r) * cols + c];
    reduce_variance(update, variance + static_cast<std::int64_t>(index) * large, step.beta2, rows, cols);
    apply_update(p + index * n, update, learning_rate, step.weight_decay, n);
  }
  if (compute_copy != nullptr && compute_copy != p) cast_parameters(device, compute_copy, p, count * n);
}

}  // namespace spillway
