// Norms, embedding, RoPE with QK norm.
#include "model/rope.hpp"
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("mix and norm, forward") {
  const int rows = GENERATE(1, 7, 333);
  const int C = GENERATE(8, 96, 320, 768, 1024, 1280, 1288, 1800, 2048, 3000, 4096);
  const bool mixed = GENERATE(true, false);
  INFO("rows " << rows << " C " << C << " mixed " << mixed);
  DeviceArray<act> x(random(1, rows * C, 2)), x0(random(2, rows * C)), h(rows * C);
  DeviceArray<float> rstd(rows), lambdas(Vector{1.25, -0.5});
  Vector stream = x.values();
  const Vector first = x0.values();
  mix_norm_forward(device(), h.data(), rstd.data(), x.data(), x0.data(), mixed ? lambdas.data() : nullptr,
                   mixed ? lambdas.data() + 1 : nullptr, rows, C);
  if (mixed)
    for (std::size_t i = 0; i < stream.size(); ++i)
      stream[i] = as_double(rounded_to<act>(1.25 * stream[i] - 0.5 * first[i]));
  Vector expected, expected_rstd;
  reference::rms_norm(expected, expected_rstd, stream, rows, C);
  CHECK(relative_error(x.values(), stream) < kStatisticTolerance);  // ties of rounding may fall either way
  CHECK(relative_error(h.values(), expected) < kTolerance);
  CHECK(relative_error(rstd.values(), expected_rstd) < kStatisticTolerance);
}

TEST_CASE("mix and norm, backward") {
  const int rows = GENERATE(1, 7, 333);
  const int C = GENERATE(8, 96, 320, 1024, 1280, 1288, 1800, 3000, 4096);
  const bool mixed = GENERATE(true, false);
  INFO("rows " << rows << " C " << C << " mixed " << mixed);
  const double lambda_r = 1.25, lambda_0 = -0.5;
  const std::int64_t n = std::int64_t{rows} * C;
  DeviceArray<act> dx(random(1, n)), dx0(random(2, n)), dh(random(3, n)), x0(random(4, n));
  const Vector mixed_stream = random(5, n, 3);
  Vector normed, rstd_values;
  reference::rms_norm(normed, rstd_values, mixed_stream, rows, C);
  DeviceArray<act> h(normed);
  DeviceArray<float> rstd(rstd_values), lambdas(Vector{lambda_r, lambda_0}), dlambdas(Vector{10.0, 20.0});
  DeviceArray<float> workspace(mix_norm_workspace(rows));
  Vector expected_dx = dx.values(), expected_dx0 = dx0.values();
  const Vector old_dx0 = expected_dx0;
  const auto added =
      reference::mix_norm_backward(expected_dx, expected_dx0, dh.values(), h.values(), rstd.values(),
                                   x0.values(), mixed ? lambda_r : 1, mixed ? lambda_0 : 0, rows, C);
  mix_norm_backward(device(), dx.data(), mixed ? dx0.data() : nullptr, mixed ? dlambdas.data() : nullptr,
                    mixed ? dlambdas.data() + 1 : nullptr, dh.data(), h.data(), rstd.data(), x0.data(),
                    mixed ? lambdas.data() : nullptr, mixed ? lambdas.data() + 1 : nullptr, workspace.data(),
                    rows, C);
  CHECK(relative_error(dx.values(), expected_dx) < kTolerance);
  CHECK(relative_error(dx0.values(), mixed ? expected_dx0 : old_dx0) < kTolerance);
  const Vector gradients = dlambdas.values();
  const double tolerance = 1e-5 * added.size * 3 + 1e-5 * 20;
  CHECK(std::abs(gradients[0] - (mixed ? 10 + added.r : 10)) < tolerance);
  CHECK(std::abs(gradients[1] - (mixed ? 20 + added.zero : 20)) < tolerance);
}

TEST_CASE("embedding and norm") {
  const int rows = GENERATE(1, 65, 1000);
  const int C = GENERATE(32, 320, 1280, 2112);
  const int V = GENERATE(1, 5, 100, 3000);  // one token everywhere, long runs, short runs, mostly single rows
  const bool two_gradients = GENERATE(true, false);
  INFO("rows " << rows << " C " << C << " V " << V << " two gradients " << two_gradients);
  const reference::Tokens token_values = random_tokens(1, rows, V);
  reference::Tokens order_values(token_values.size());
  order_by_token(order_values, token_values, V);
  DeviceArray<std::int32_t> tokens(token_values), order(order_values);
  DeviceArray<act> wte(random(2, std::int64_t{V} * C)), x(std::int64_t{rows} * C),
      dx(random(3, std::int64_t{rows} * C)), dx0(random(5, std::int64_t{rows} * C));
  DeviceArray<float> rstd(rows), dwte(random(4, std::int64_t{V} * C));
  embedding_norm_forward(device(), x.data(), rstd.data(), tokens.data(), wte.data(), rows, C);
  Vector expected, expected_rstd, expected_dwte = dwte.values();
  reference::embedding_norm_forward(expected, expected_rstd, token_values, wte.values(), C);
  CHECK(relative_error(x.values(), expected) < kTolerance);
  CHECK(relative_error(rstd.values(), expected_rstd) < kFloatTolerance);

  Vector gradient = dx.values();
  const Vector more = dx0.values();
  for (std::size_t i = 0; i < gradient.size() && two_gradients; ++i) gradient[i] += more[i];
  reference::embedding_norm_backward(expected_dwte, gradient, x.values(), rstd.values(), token_values, C);
  embedding_norm_backward(device(), dwte.data(), dx.data(), two_gradients ? dx0.data() : nullptr, x.data(),
                          rstd.data(), tokens.data(), order.data(), rows, C);
  CHECK(relative_error(dwte.values(), expected_dwte) < kFloatTolerance);
}

TEST_CASE("rows by token") {
  const reference::Tokens tokens = {2, 0, 2, 1, 2, 0};
  reference::Tokens order(tokens.size());
  order_by_token(order, tokens, 4);
  CHECK(order == reference::Tokens{1, 5, 3, 0, 2, 4});
}

TEST_CASE("RoPE and QK norm") {
  const int B = 2, T = GENERATE(1, 33, 64), H = GENERATE(1, 3), D = GENERATE(32, 64, 128);
  INFO("T " << T << " H " << H << " D " << D);
  const std::int64_t n = std::int64_t{B} * T * 3 * H * D;
  const RopeTables tables = rope_tables(T, D);
  DeviceArray<float> cosine(tables.cosine), sine(tables.sine), rstd(std::int64_t{B} * T * 2 * H);
  DeviceArray<act> qkv(random(1, n, 3)), dqkv(random(2, n));
  Vector expected = qkv.values(), expected_rstd;
  rope_qk_norm_forward(device(), qkv.data(), rstd.data(), cosine.data(), sine.data(), B, T, H, D);
  reference::rope_qk_norm_forward(expected, expected_rstd, cosine.values(), sine.values(), B, T, H, D);
  CHECK(relative_error(qkv.values(), expected) < kTolerance);
  CHECK(relative_error(rstd.values(), expected_rstd) < kFloatTolerance);

  Vector gradient = dqkv.values();
  reference::rope_qk_norm_backward(gradient, qkv.values(), rstd.values(), cosine.values(), sine.values(), B,
                                   T, H, D);
  rope_qk_norm_backward(device(), dqkv.data(), qkv.data(), rstd.data(), cosine.data(), sine.data(), B, T, H,
                        D);
  CHECK(relative_error(dqkv.values(), gradient) < kTolerance);
}
