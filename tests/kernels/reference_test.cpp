// The float64 backward ops against central differences of the float64 forward ops. The ops of the devices are then
// tested against the former. Each loss is a weighted sum of an op's outputs, so the weights are the outputs' gradients.
#include <functional>
#include <numeric>

#include "model/rope.hpp"
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr double kDifferenceTolerance = 1e-7;

double weighted(const Vector& weights, const Vector& values) {
  return std::inner_product(weights.begin(), weights.end(), values.begin(), 0.0);
}

// dloss/dx[i] ≈ (loss(x + ε·eᵢ) − loss(x − ε·eᵢ))/2ε for all i.
Vector differences(Vector x, const std::function<double(const Vector&)>& loss) {
  constexpr double kEpsilon = 1e-5;
  Vector gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    x[i] = value + kEpsilon;
    const double above = loss(x);
    x[i] = value - kEpsilon;
    gradient[i] = (above - loss(x)) / (2 * kEpsilon);
    x[i] = value;
  }
  return gradient;
}

}  // namespace

TEST_CASE("reference: mix and norm") {
  const int rows = 3, C = 10, n = rows * C;
  const Vector x = random(1, n), x0 = random(2, n), dh = random(3, n), dx_after = random(4, n);
  const Vector lambdas = {0.8, -0.6};
  const auto loss = [&](const Vector& start, const Vector& first, const Vector& factors) {
    Vector h, rstd, mixed = start;
    reference::mix_norm_forward(h, rstd, mixed, first, factors[0], factors[1], rows, C);
    return weighted(dh, h) + weighted(dx_after, mixed);
  };
  Vector h, rstd, mixed = x;
  reference::mix_norm_forward(h, rstd, mixed, x0, lambdas[0], lambdas[1], rows, C);
  Vector dx = dx_after, dx0 = reference::zeros(n);
  const auto dlambdas =
      reference::mix_norm_backward(dx, dx0, dh, h, rstd, x0, lambdas[0], lambdas[1], rows, C);
  CHECK(relative_error(dx, differences(x, [&](const Vector& at) { return loss(at, x0, lambdas); })) <
        kDifferenceTolerance);
  CHECK(relative_error(dx0, differences(x0, [&](const Vector& at) { return loss(x, at, lambdas); })) <
        kDifferenceTolerance);
  const Vector numeric = differences(lambdas, [&](const Vector& at) { return loss(x, x0, at); });
  CHECK(dlambdas.r == Approx(numeric[0]).epsilon(kDifferenceTolerance));
  CHECK(dlambdas.zero == Approx(numeric[1]).epsilon(kDifferenceTolerance));
}

TEST_CASE("reference: embedding and norm") {
  const int C = 6, V = 4;
  const reference::Tokens tokens = {2, 0, 2, 1, 2};  // 3 never occurs
  const Vector wte = random(1, V * C), dx = random(2, static_cast<int>(tokens.size()) * C);
  Vector x, rstd, gradient = reference::zeros(V * C);
  reference::embedding_norm_forward(x, rstd, tokens, wte, C);
  reference::embedding_norm_backward(gradient, dx, x, rstd, tokens, C);
  const auto loss = [&](const Vector& at) {
    reference::embedding_norm_forward(x, rstd, tokens, at, C);
    return weighted(dx, x);
  };
  CHECK(relative_error(gradient, differences(wte, loss)) < kDifferenceTolerance);
}

TEST_CASE("reference: linear layers") {
  const int rows = 4, in = 5, out = 3;
  const Vector x = random(1, rows * in), W = random(2, out * in), dy = random(3, rows * out);
  const auto loss = [&](const Vector& input, const Vector& weight) {
    Vector y = reference::zeros(rows * out);
    reference::linear_forward(y, input, weight, rows, in, out);
    return weighted(dy, y);
  };
  Vector dx = reference::zeros(rows * in), dW = reference::zeros(out * in);
  reference::linear_backward_input(dx, dy, W, rows, in, out);
  reference::linear_backward_weight(dW, dy, x, rows, in, out);
  CHECK(relative_error(dx, differences(x, [&](const Vector& at) { return loss(at, W); })) <
        kDifferenceTolerance);
  CHECK(relative_error(dW, differences(W, [&](const Vector& at) { return loss(x, at); })) <
        kDifferenceTolerance);
}

TEST_CASE("reference: relu squared") {
  const Vector h = random(1, 50), da = random(2, 50);
  const Vector gradient = reference::relu2_backward(da, reference::relu2_forward(h));
  const auto loss = [&](const Vector& at) { return weighted(da, reference::relu2_forward(at)); };
  CHECK(relative_error(gradient, differences(h, loss)) < kDifferenceTolerance);
}

TEST_CASE("reference: RoPE and QK norm") {
  const int B = 2, T = 3, H = 2, D = 8, n = B * T * 3 * H * D;
  const RopeTables tables = rope_tables(T, D);
  const Vector cosine(tables.cosine.begin(), tables.cosine.end()),
      sine(tables.sine.begin(), tables.sine.end());
  const Vector before = random(1, n), weights = random(2, n);
  Vector qkv = before, rstd, gradient = weights;
  reference::rope_qk_norm_forward(qkv, rstd, cosine, sine, B, T, H, D);
  reference::rope_qk_norm_backward(gradient, qkv, rstd, cosine, sine, B, T, H, D);
  const auto loss = [&](const Vector& at) {
    Vector copy = at;
    reference::rope_qk_norm_forward(copy, rstd, cosine, sine, B, T, H, D);
    return weighted(weights, copy);
  };
  // The tables are rounded, so a rotation is not quite orthogonal; the op's inverse is its transpose all the same.
  CHECK(relative_error(gradient, differences(before, loss)) < kDifferenceTolerance);
}

TEST_CASE("reference: attention") {
  const int B = 2, T = 5, H = 2, D = 4;
  const Vector qkv = random(1, B * T * 3 * H * D), d_o = random(2, B * T * H * D);
  const auto loss = [&](const Vector& at) {
    Vector o, lse;
    reference::attention_forward(o, lse, at, B, T, H, D);
    return weighted(d_o, o);
  };
  CHECK(relative_error(reference::attention_backward(d_o, qkv, B, T, H, D), differences(qkv, loss)) <
        kDifferenceTolerance);
}

TEST_CASE("reference: softcapped cross entropy") {
  const int rows = 3, V = 7;
  const reference::Tokens targets = {4, -1, 0};
  const Vector logits = random(1, rows * V, 8);
  const auto loss = [&](const Vector& at) {
    Vector copy = at;
    const Vector losses = reference::softcap_cross_entropy(copy, targets, 0, rows, V);
    return 0.5 * std::accumulate(losses.begin(), losses.end(), 0.0);
  };
  Vector gradient = logits;
  reference::softcap_cross_entropy(gradient, targets, 0.5, rows, V);
  CHECK(relative_error(gradient, differences(logits, loss)) < kDifferenceTolerance);
}
