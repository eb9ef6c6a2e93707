// Device memory with random contents for the op benchmark. Included only by the other bench_*.hpp.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <type_traits>
#include <vector>

#include "core/arena.hpp"
#include "core/rng.hpp"
#include "model/activations.hpp"
#include "model/layout.hpp"
#include "model/rope.hpp"

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

}  // namespace spillway::bench_detail
