// What only the CPU promises: accuracy of its exp and tanh, the same bits in every run and with any number of threads.
#include <omp.h>

#include <cstring>
#include <functional>

#include "kernels/cpu/fast_math.hpp"
#include "tests/kernels/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

using Floats = std::vector<float>;

Floats random_floats(std::uint64_t seed, std::int64_t count, double scale = 1) {
  const Vector values = random(seed, count, scale);
  return {values.begin(), values.end()};
}

// What `run` returns with 1, 2 and 5 threads, and with 2 once more.
std::vector<Floats> with_threads(const std::function<Floats(Cpu&)>& run) {
  const int before = omp_get_max_threads();
  std::vector<Floats> results;
  for (const int threads : {1, 2, 5, 2}) {
    Cpu cpu(threads);
    results.push_back(run(cpu));
  }
  Cpu restore(before);
  return results;
}

bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_any_thread_count(const std::function<Floats(Cpu&)>& run) {
  const std::vector<Floats> results = with_threads(run);
  for (const Floats& result : results) CHECK(same_bits(result, results[0]));
}

Floats joined(std::initializer_list<Floats> parts) {
  Floats all;
  for (const Floats& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

TEST_CASE("exponential of floats") {
  double worst = 0;
  for (int i = -870000; i <= 870000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    const double exact = std::exp(double{x});
    worst = std::max(worst, std::abs(cpu::fast_exp(x) - exact) / exact);
  }
  INFO("worst relative error " << worst);
  CHECK(worst < 2e-7);
  CHECK(cpu::fast_exp(0.0f) == 1.0f);
  CHECK(cpu::fast_exp(-1e30f) < 2e-38f);
  CHECK(std::isfinite(cpu::fast_exp(1e30f)));
  CHECK(std::isnan(cpu::fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("hyperbolic tangent of floats") {
  double worst = 0;
  for (int i = -200000; i <= 200000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    worst = std::max(worst, std::abs(cpu::fast_tanh(x) - std::tanh(double{x})));
  }
  INFO("worst absolute error " << worst);
  CHECK(worst < 3e-7);
  // Small arguments keep their relative accuracy.
  for (const float x : {1e-30f, 1e-6f, -3e-4f, 0.05f, -0.0999f})
    CHECK(cpu::fast_tanh(x) == Approx(std::tanh(double{x})).epsilon(1e-6));
  CHECK(cpu::fast_tanh(0.0f) == 0.0f);
  CHECK(cpu::fast_tanh(3e38f) == 1.0f);
  CHECK(cpu::fast_tanh(-3e38f) == -1.0f);
  CHECK(std::isnan(cpu::fast_tanh(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("reductions do not depend on the number of threads") {
  const std::int64_t n = 300007;
  const Floats values = random_floats(1, n);
  check_any_thread_count([&](Cpu& cpu) {
    Floats totals(2);
    sum(cpu, totals.data(), values.data(), n, false);
    sum_of_squares(cpu, totals.data() + 1, values.data(), n, false);
    return totals;
  });
}

TEST_CASE("norms and their gradients do not depend on the number of threads") {
  const int rows = 203, C = 48, V = 17;
  const Floats stream = random_floats(1, rows * C), first = random_floats(2, rows * C),
               dh = random_floats(3, rows * C), wte = random_floats(4, V * C);
  const std::vector<std::int32_t> tokens = random_tokens(5, rows, V);
  const Floats lambdas = {0.9f, 0.2f};
  check_any_thread_count([&](Cpu& cpu) {
    Floats x = stream, h(x.size()), rstd(rows), dx = first, dx0 = stream, dlambdas(2), dwte(wte.size());
    Floats workspace(static_cast<std::size_t>(mix_norm_workspace(rows)));
    mix_norm_forward(cpu, h.data(), rstd.data(), x.data(), first.data(), lambdas.data(), lambdas.data() + 1,
                     rows, C);
    mix_norm_backward(cpu, dx.data(), dx0.data(), dlambdas.data(), dlambdas.data() + 1, dh.data(), h.data(),
                      rstd.data(), first.data(), lambdas.data(), lambdas.data() + 1, workspace.data(), rows,
                      C);
    embedding_norm_forward(cpu, x.data(), rstd.data(), tokens.data(), wte.data(), rows, C);
    std::vector<std::int32_t> order(tokens.size());
    order_by_token(order, tokens, V);
    embedding_norm_backward(cpu, dwte.data(), dx.data(), dx0.data(), x.data(), rstd.data(), tokens.data(),
                            order.data(), rows, C);
    return joined({h, x, dx, dx0, dlambdas, dwte});
  });
}

TEST_CASE("attention does not depend on the number of threads") {
  const int B = 2, T = 150, H = 3, D = 32, rows = B * T;
  const Floats qkv = random_floats(1, rows * 3 * H * D, 0.7), d_o = random_floats(2, rows * H * D);
  check_any_thread_count([&](Cpu& cpu) {
    Floats o(d_o.size()), lse(rows * H), dqkv(qkv.size());
    Floats workspace(static_cast<std::size_t>(attention_workspace(B, T, H)));
    attention_forward(cpu, o.data(), lse.data(), qkv.data(), B, T, H, D);
    attention_backward(cpu, dqkv.data(), d_o.data(), o.data(), lse.data(), qkv.data(), workspace.data(), B, T,
                       H, D);
    return joined({o, lse, dqkv});
  });
}

TEST_CASE("loss does not depend on the number of threads") {
  const int rows = 37, V = 301;
  const Floats logits = random_floats(1, rows * V, 5);
  const std::vector<std::int32_t> targets = random_tokens(2, rows, V);
  check_any_thread_count([&](Cpu& cpu) {
    Floats u = logits, losses(rows);
    softcap_cross_entropy(cpu, losses.data(), u.data(), targets.data(), 0.25f, rows, V);
    return joined({losses, u});
  });
}

TEST_CASE("optimizers do not depend on the number of threads") {
  const int count = 5, rows = 64, cols = 48, n = count * rows * cols;
  const Floats parameters = random_floats(1, n), gradient = random_floats(2, n);
  const float gate = 1;
  check_any_thread_count([&](Cpu& cpu) {
    Floats p = parameters, m(p.size()), v(p.size()), g = gradient, momentum(p.size()), variance(count * rows);
    Floats workspace(static_cast<std::size_t>(muon_workspace(count, rows, cols)));
    adamw_update(cpu, p.data(), nullptr, m.data(), v.data(), g.data(),
                 {0.01f, 0.8f, 0.95f, 1e-10f, 0.2f, 0.05f}, &gate, n);
    muon_update(cpu, p.data(), nullptr, momentum.data(), variance.data(), g.data(), workspace.data(),
                {0.02f, 0.9f, 0.95f, 0.1f}, &gate, count, rows, cols);
    return joined({p, m, v, momentum, variance});
  });
}

TEST_CASE("linear layers give the same bits in every run") {
  const int rows = 515, in = 131, out = 259;
  const Floats x = random_floats(1, rows * in), W = random_floats(2, out * in),
               dy = random_floats(3, rows * out);
  const std::vector<Floats> results = with_threads([&](Cpu& cpu) {
    Floats y(dy.size()), dx(x.size()), dW(W.size());
    linear_forward(cpu, y.data(), x.data(), W.data(), rows, in, out, false);
    linear_backward_input(cpu, dx.data(), dy.data(), W.data(), rows, in, out, false);
    linear_backward_weight(cpu, dW.data(), dy.data(), x.data(), rows, in, out, false);
    return joined({y, dx, dW});
  });
  CHECK(same_bits(results[1], results[3]));  // both with two threads
}
