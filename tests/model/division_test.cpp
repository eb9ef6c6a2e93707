// How the optimizer is divided over ranks, and that the division changes nothing.
#include "optim/division.hpp"

#include <algorithm>
#include "model/init.hpp"

#include "model/layout.hpp"
#include "model/parameters.hpp"
#include "optim/optimizer.hpp"
#include "tests/catch.hpp"
#include "tests/model/support.hpp"

using namespace spillway;
using namespace spillway::test;

namespace {

GptSpec spec_of(int layers) {
  return {.layers = layers, .width = 32, .heads = 2, .vocab = 77, .sequence = 8, .scalars = true};
}

}  // namespace

TEST_CASE("parts cover the parameters, whole matrices each, in equal loads") {
  const int ranks = GENERATE(1, 2, 3, 4, 7, 16);
  const ParameterLayout layout = make_layout(spec_of(5));
  INFO(ranks << " ranks");
  const auto parts = divide_parameters(layout, ranks);
  std::int64_t next = 0;
  std::vector<std::int64_t> load(static_cast<std::size_t>(ranks), 0);
  for (const OwnedPart& part : parts) {
    CHECK(part.begin == next);
    CHECK(part.end > part.begin);
    REQUIRE(part.owner >= 0);
    REQUIRE(part.owner < ranks);
    load[static_cast<std::size_t>(part.owner)] += part.end - part.begin;
    next = part.end;
    for (const MatrixBatch& batch : layout.batches) {
      const std::int64_t matrix = std::int64_t{batch.rows} * batch.cols;
      if (part.begin < batch.offset || part.begin >= batch.offset + batch.count * matrix) continue;
      CHECK((part.begin - batch.offset) % matrix == 0);
      CHECK((part.end - batch.offset) % matrix == 0);
    }
  }
  CHECK(next == layout.total);
  // One matrix of each batch more or less, and a line of an embedding.
  const std::int64_t uneven = (1 + 4 + 4) * 32 * 32 + 2 * 64 + 10;
  const auto [least, most] = std::minmax_element(load.begin(), load.end());
  CHECK(*most - *least <= uneven);
}

TEST_CASE("the ranks' optimizers together do what one does, bit by bit") {
  const int ranks = GENERATE(2, 3, 8);
  INFO(ranks << " ranks");
  Cpu device;
  const ParameterLayout layout = make_layout(spec_of(3));
  const std::vector<float> start = random_parameters(layout, 3);
  const auto train = [&](std::vector<float>& parameters, Optimizer<Cpu>& optimizer) {
    for (int it = 0; it < 3; ++it) {
      std::vector<float> gradients = random_parameters(layout, 10 + static_cast<std::uint64_t>(it));
      float gate = 1;
      CHECK(optimizer.step(parameters.data(), nullptr, gradients.data(), it, &gate).applied);
    }
  };
  std::vector<float> whole = start;
  Optimizer<Cpu> one(device, layout, OptimConfig{}, 10);
  train(whole, one);

  std::vector<float> composed(start.size(), 0);
  std::vector<std::vector<float>> state(one.state().size());
  float squares = 0, one_squares = 0;
  one.sum_own_squares(&one_squares, start.data());
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<float> mine = start;
    Optimizer<Cpu> optimizer(device, layout, OptimConfig{}, 10, {rank, ranks});
    train(mine, optimizer);
    for (const OwnedPart& part : divide_parameters(layout, ranks)) {
      const auto begin = static_cast<std::ptrdiff_t>(part.begin), end = static_cast<std::ptrdiff_t>(part.end);
      if (part.owner == rank)
        std::copy(mine.begin() + begin, mine.begin() + end, composed.begin() + begin);
      else
        CHECK(std::equal(mine.begin() + begin, mine.begin() + end, start.begin() + begin));
    }
    REQUIRE(optimizer.state().size() == state.size());
    for (std::size_t i = 0; i < state.size(); ++i) {
      const NamedTensor& tensor = optimizer.state()[i];
      CHECK(tensor.name == one.state()[i].name);
      CHECK(tensor.shape == one.state()[i].shape);
      if (tensor.count == 0) continue;
      CHECK(tensor.first == static_cast<std::int64_t>(state[i].size()));
      state[i].insert(state[i].end(), tensor.data, tensor.data + tensor.count);
    }
    float own = 0;
    optimizer.sum_own_squares(&own, start.data());
    squares += own;
  }
  CHECK(composed == whole);
  CHECK(squares == Approx(one_squares).epsilon(1e-5));
  for (std::size_t i = 0; i < state.size(); ++i) {
    const NamedTensor& tensor = one.state()[i];
    INFO(tensor.name);
    CHECK(state[i] == std::vector<float>(tensor.data, tensor.data + tensor.count));
  }
}
